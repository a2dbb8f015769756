"""The service's routes: what is asked for over HTTP is checked here and done elsewhere."""
