"""What a message is: its properties, its identity, its tables, and what can be published."""
