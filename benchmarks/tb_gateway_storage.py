"""Run by .venv-gateway's Python: CPU seconds for N readings into tb-gateway's sqlite storage and out of it."""

# mypy: ignore-errors
import json
import logging
import sys
import tempfile
import time
from threading import Event


def main(count: int) -> float:
    """Put, then read and confirm pack by pack, as its sender does."""
    from thingsboard_gateway.storage.sqlite.sqlite_event_storage import SQLiteEventStorage

    with tempfile.TemporaryDirectory() as folder:
        config = {"data_file_path": f"{folder}/", "max_read_records_count": 1000, "size_limit": 1024}
        log = logging.getLogger("storage")
        log.trace = log.debug  # a level of its own
        storage = SQLiteEventStorage(config, log, Event())
        values = {"voltage_l1": 136.5, "current_l1": 1.33, "frequency": 60.0, "active_power": 181.5}
        message = {"deviceName": "m", "deviceType": "dlms-meter", "attributes": [], "telemetry": []}
        began = time.process_time()
        for number in range(count):
            reading = {"ts": 1_762_857_000_000 + number, "values": {**values, "active_energy": 56_281.0 + number}}
            storage.put(json.dumps({**message, "telemetry": [reading]}))
        left, give_up = count, time.monotonic() + 60
        while left and time.monotonic() < give_up:
            pack = storage.get_event_pack()
            if not pack:
                time.sleep(0.01)
                continue
            left -= len(pack)
            storage.event_pack_processing_done()
        used = time.process_time() - began
        storage.stop()
    if left:
        sys.exit(f"{left} of {count} did not come out again")
    return used


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
