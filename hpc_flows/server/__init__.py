"""The server: it takes what runs report, keeps it in a database, and shows it to who may see it."""
