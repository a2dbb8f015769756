"""Another archive that Orthanc can ask: a DICOM modality or a DICOMweb server of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a cohort is fetched from: `kind` as in the request, and the name in Orthanc's configuration."""

    kind: Literal["Modality", "DicomWeb"]
    name: str

    def shown(self) -> dict[str, str]:
        """Return it as requests and answers name it."""
        return {self.kind: self.name}
