"""The sink of a Prefect 3 server, as a relay feeds it."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from hpc_flows.reporting.attachments import MOST_BYTES
from hpc_flows.reporting.prefect.marks import Marks
from hpc_flows.reporting.prefect.pacing import RATE, Pace
from hpc_flows.reporting.prefect.report import RunReport
from hpc_flows.reporting.prefect.server import PrefectServer
from hpc_flows.reporting.sink import Attachment, Batch, Receipt, RunAbout, Sink, SinkRefusal

if TYPE_CHECKING:
    from hpc_flows.settings import Settings

#: Runs of one task in one flow run that are shown one by one; those above are shown as one, with
#: counts. Browsers freeze at some thousand nodes, and every node costs the server several events.
MOST_SHOWN = 500


class PrefectSink(Sink):
    """A Prefect 3 server.

    Args:
        url: of its API, as in PREFECT_API_URL.
        key, auth: as in PREFECT_API_KEY and PREFECT_API_AUTH_STRING.
        rate: events a second that it is sent at most.
        most: runs of one task in one flow run that are shown one by one.

    Raises:
        SinkRefusal: the address is none.
    """

    name = "prefect"
    takes_attachments = True

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        auth: str | None = None,
        rate: float = RATE,
        most: int = MOST_SHOWN,
    ) -> None:
        self._server = PrefectServer(url, key=key, auth=auth)
        self._pace = Pace(rate)
        self._most = most
        self._reports: dict[str, RunReport] = {}
        self.store = f"prefect-{blake2b(str(self._server).encode(), digest_size=6).hexdigest()}"

    def open(self) -> str:
        """Check that the server can be fed; its database has no name, and it forgets nothing."""
        self._pace.go_on()
        self._server.open()
        return ""

    def register(self, run: RunAbout) -> str:
        """Get ready for a run; the server is told of it with the first events."""
        self._report(run)
        return ""

    def send(self, batch: Batch) -> Receipt:
        """Tell the server what a batch says; waits as long as the rate wants it."""
        return self._report(batch.run).send(batch)

    def attach(self, run: RunAbout, attachment: Attachment) -> int:
        """Send an artifact that was too large for its event; other files have no place there.

        One of many megabytes is left out: a server that others use as well is not for these.
        """
        if attachment.kind == "artifact" and len(attachment.content) <= MOST_BYTES:
            self._report(run).attach(attachment.key, attachment.content)
        return 0

    def way(self) -> str:
        """Return the server's address."""
        return f"Prefect at {self._server}"

    def finish(self, run: RunAbout) -> None:
        """Send what was held back, and forget a run that has ended."""
        report = self._reports.get(run.id)
        if report is not None and report.finish():
            del self._reports[run.id]

    def close(self) -> None:
        """Let nobody wait for the rate any more, and let go of the connection."""
        self._pace.stop()
        self._server.close()

    def _report(self, run: RunAbout) -> RunReport:
        report = self._reports.get(run.id)
        if report is None:
            marks = Marks(self.state_folder, run.id)
            report = RunReport(run, self._server, self._pace, marks, self._most)
            self._reports[run.id] = report
        return report


def open_prefect_sink(settings: Settings) -> PrefectSink:
    """Return the sink that the settings name; nothing is asked of the server yet.

    Raises:
        SinkRefusal: `prefect_api_url` is not set, or is no address.
    """
    if not settings.prefect_api_url:
        raise SinkRefusal("No Prefect server is named: prefect_api_url is not set.")
    return PrefectSink(
        settings.prefect_api_url,
        key=settings.prefect_api_key,
        auth=settings.prefect_api_auth_string,
    )
