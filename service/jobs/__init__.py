"""What nobody waits for: tasks, and the processes that run them."""
