"""A collector of traces: takes what OTLP over HTTP brings, and remembers the spans."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


@dataclass(frozen=True)
class CollectedSpan:
    """Ids are in hexadecimal; `parent` is empty for the first span of a trace."""

    service: str
    name: str
    trace: str
    id: str
    parent: str


@dataclass
class Collector:
    endpoint: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)

    def wait_for(self, service: str, name: str, *, trace: str, seconds: float = 30) -> CollectedSpan:
        """The first span of this name in this trace, as soon as it has come."""
        deadline = time.monotonic() + seconds
        while True:
            for span in self.spans:
                if (span.service, span.name, span.trace) == (service, name, trace):
                    return span
            assert time.monotonic() < deadline, f"no span {name} of {service}: {[span for span in self.spans if span.trace == trace]}"
            time.sleep(0.05)


@contextmanager
def run_collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.spans.extend(_spans(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(body: bytes) -> Iterator[CollectedSpan]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = next(each.value.string_value for each in group.resource.attributes if each.key == "service.name")
        for scope in group.scope_spans:
            for span in scope.spans:
                yield CollectedSpan(service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
