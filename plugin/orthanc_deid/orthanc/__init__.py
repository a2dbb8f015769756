"""What the service asks of Orthanc's REST; nothing outside this package knows Orthanc's routes."""
