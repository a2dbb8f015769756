"""The builders of single objects, by kind; tests use them through tests.builders."""
