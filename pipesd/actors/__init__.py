"""The shell: tasks, mailboxes, sockets. It carries out what ``session`` decides, and reports what happens."""
