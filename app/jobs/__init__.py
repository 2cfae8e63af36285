"""Jobs: what clients asked for, and how far it has come."""
