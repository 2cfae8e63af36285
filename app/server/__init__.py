"""The server process: start-up checks, the HTTP protocol, and the services that run until a signal."""
