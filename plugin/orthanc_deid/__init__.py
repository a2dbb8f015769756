"""De-identifies DICOM instances of an Orthanc server into research studies (DICOM PS3.15 Annex E)."""

__version__ = "0.1.0"
