"""What `diary doctor` looks at, before somebody waits hours for it: machine, project, and how long things take."""
