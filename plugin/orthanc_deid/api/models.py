"""The bodies that the routes take, and the answers that they give, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from orthanc_deid.orthanc.sources import Origin
from orthanc_deid.pipeline.cohort import MAX_LINES
from orthanc_deid.pipeline.job_model import HIGHEST, PRIORITY_ONE

ORTHANC_ID = r"^[0-9a-f]{8}(-[0-9a-f]{8}){4}$"
MAX_RESOURCES = 50_000
"""Resources that one job may name; more are a query."""

ProjectName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
OrthancId = Annotated[str, StringConstraints(pattern=ORTHANC_ID)]
QueryValue = Annotated[str, StringConstraints(max_length=1024)]


class Body(BaseModel):
    """A body: strict types, and no key that means nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class DeidentifyBody(Body):
    """What to do with one resource of Orthanc's."""

    Project: ProjectName = Field(description="The project that the research study is made for.")
    DryRun: bool = Field(False, description="Only say what would happen: nothing is written or sent.")
    Push: bool = Field(True, description="Send to the project's destinations; false: only keep the research copy.")
    Priority: int | None = Field(
        None,
        ge=0,
        le=HIGHEST,
        description="As of Orthanc's jobs: the greater, the sooner. 10: like what arrives now; 0 (a query, everything, "
        f"a cohort): after all else; {PRIORITY_ONE} where resources are named.",
    )
    Sample: int | None = Field(
        None, ge=1, le=1_000_000, description="Of a dry run: try so many instances, evenly spread, instead of all."
    )

    @model_validator(mode="after")
    def _sample_is_dry(self) -> DeidentifyBody:
        if self.Sample is not None and not self.DryRun:
            raise ValueError("Sample belongs to a DryRun: a job does all")
        return self


class Source(Body):
    """An archive of Orthanc's configuration."""

    Modality: str | None = Field(None, min_length=1, max_length=256, description="Of DicomModalities.")
    DicomWeb: str | None = Field(None, min_length=1, max_length=256, description="Of DicomWeb.Servers.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Source:
        if (self.Modality is None) == (self.DicomWeb is None):
            raise ValueError("exactly one of Modality and DicomWeb must be given")
        return self

    @property
    def origin(self) -> Origin:
        """The archive."""
        return Origin("Modality", self.Modality) if self.Modality else Origin("DicomWeb", self.DicomWeb or "")


class JobBody(DeidentifyBody):
    """What to de-identify: resources of any level, or all that a query finds."""

    Resources: list[OrthancId] | None = Field(
        None, min_length=1, max_length=MAX_RESOURCES, description="Orthanc ids of patients, studies, series, instances."
    )
    Query: dict[str, QueryValue] | None = Field(
        None, description="Attributes and patterns as in Orthanc's /tools/find; an empty query stands for everything."
    )
    Level: Literal["Patient", "Study", "Series", "Instance"] = Field("Study", description="The level of the query.")
    From: Source | None = Field(None, description="Another archive, from which the studies of a Cohort are fetched.")
    Cohort: list[dict[str, QueryValue]] | None = Field(
        None,
        min_length=1,
        max_length=MAX_LINES,
        description="What to ask for, line by line: attributes of studies by keyword; at least one of PatientID, "
        "StudyInstanceUID, AccessionNumber and StudyDate.",
    )
    KeepOriginals: bool = Field(
        True, description="false: what this job itself fetched is deleted again once every project has confirmed it."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> JobBody:
        if [self.Resources, self.Query, self.From].count(None) != 2:
            raise ValueError("exactly one of Resources, Query and From must be given")
        if (self.From is None) != (self.Cohort is None):
            raise ValueError("From and Cohort belong together")
        if self.From is None and "KeepOriginals" in self.model_fields_set:
            raise ValueError("KeepOriginals belongs to From")
        if self.From is not None and self.Sample is not None:
            raise ValueError("Sample belongs to what is stored here")
        if self.Resources is not None and "Level" in self.model_fields_set:
            raise ValueError("Level belongs to a Query; resources may be of any level")
        return self


class QuarantineBody(Body):
    """What to do with an instance in quarantine."""

    Action: Literal["retry", "exclude", "replace"] = Field(
        description="retry: de-identify it again, after a change of the profile, say; exclude: it is left out for "
        "good; replace: what a destination holds under its UIDs (a conflict) is deleted there, and it is sent again."
    )


class SpoolBody(Body):
    """What to do with an original that no project takes."""

    Action: Literal["discard"] = Field(description="discard: it is deleted, and nobody else has it.")


class SpoolItem(BaseModel):
    """An original in the spool of gateway mode that no project takes."""

    ID: str = Field(description="Random.")
    Reason: str = Field(description="unmatched, sender-unknown, or why it could not be read.")
    Since: str
    Size: int = Field(description="Bytes.")


class ResendBody(Body):
    """Where to send again."""

    Destination: str | None = Field(
        None, min_length=1, max_length=100, description="One of the project's, as its page names it; none: all."
    )


class TodoBody(Body):
    """What became of something that only a person could delete."""

    Action: Literal["done", "retry"] = Field(description="done: it was deleted there; retry: the service tries again.")


class Begun(BaseModel):
    """What a request began."""

    Instances: int = Field(description="Instances that it is about.")
    SourceMissing: int = Field(
        description="Instances left as they are: they cannot be made again without their source."
    )


class Todo(BaseModel):
    """Something that was sent and has to be deleted at its destination by a person."""

    ID: int
    Project: str
    Destination: str
    Reason: str = Field(description="unable: no way to delete there; refused: the destination does not allow it.")
    Then: Literal["recall", "replace"] = Field(description="replace: it is sent anew when it is done.")
    Pseudonym: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    Since: str


class Error(BaseModel):
    """The answer of every route to what cannot be done."""

    error: str = Field(description="What kind of error, in words that stay the same.")
    detail: str | list[str] = Field(description="What exactly; never an attribute's value.")


class Started(BaseModel):
    """A job that was started."""

    ID: str
    Path: str


class Job(BaseModel):
    """A job, shaped like Orthanc's own."""

    ID: str
    Type: Literal["Deidentify", "DeidentifyDryRun"]
    State: Literal["Pending", "Running", "Success", "Failure", "Paused"]
    Progress: int = Field(ge=0, le=100)
    Priority: int
    CreationTime: str = Field(description="UTC, as Orthanc writes it: 20260105T094530.000000")
    CompletionTime: str | None = None
    Timestamp: str
    EffectiveRuntime: float = Field(description="seconds")
    ErrorCode: int = Field(description="Orthanc's codes: 0 success, 1 plugin, 7 nothing there, 37 cancelled")
    ErrorDescription: str
    Content: dict[str, Any] = Field(description="Counts of instances per outcome and per reason.")


class Destination(BaseModel):
    """How the instances for one destination stand."""

    Name: str
    Deliveries: dict[str, int] = Field(description="Deliveries by state.")


class Project(BaseModel):
    """A project: its settings without secrets, and how its work stands."""

    Name: str
    Settings: dict[str, Any]
    Outcomes: dict[str, int] = Field(description="Instances by state.")
    Reasons: dict[str, int] = Field(description="Instances that are held, rejected or refused, by reason.")
    LateValues: int = Field(description="Outputs that had left when another value of their subject was learnt.")
    Backlog: int = Field(description="Instances without an outcome.")
    OldestWaiting: float | None = Field(description="Seconds since the oldest of them came in.")
    Throughput: float = Field(description="Instances confirmed per second, over the last five minutes.")
    Destinations: list[Destination]


class Study(BaseModel):
    """A research study; everything here is pseudonymous."""

    StudyInstanceUID: str
    Pseudonym: str
    State: str = Field(description="open, releasing, released or held")
    LastArrival: str = Field(description="The day on which its last instance came in, in UTC: 20260105T000000.")
    Instances: dict[str, int] = Field(description="Instances by state.")
    ResearchStudy: str | None = Field(description="Orthanc's id of the research copy, where the project keeps one.")


class QuarantineItem(BaseModel):
    """An instance that is held back, or that was refused."""

    ID: int
    Project: str
    State: str
    Reason: str | None
    Meaning: str | None = Field(description="What the reason code means.")
    Tag: str | None = Field(description="(gggg,eeee), where one attribute is the reason.")
    Findings: Any = Field(description="Where and what, never the value.")
    Created: str
    Updated: str
    Attempts: int
    StudyInstanceUID: str | None = Field(description="Of the research study, where one was made.")
    Pseudonym: str | None
