"""The background loops that advance jobs against DashScope. They run no SQL of their own: `app.queue` has it."""
