"""What the commands show: columns, views for people, records for programs, and the screen."""
