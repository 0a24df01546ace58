"""A local stack's ports and folder stay the same from run to run, and are never taken from anybody."""

import socket
from pathlib import Path

import pytest

from sluice.local.folder import DataFolder, NotOurs
from sluice.local.ports import PortsGone, choose_ports
from sluice.runtime.supervisor import FolderInUse, Supervisor


def test_ports_chosen_once_are_chosen_again(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = choose_ports(file, ["kafka", "compose-1"], first=23_100)
    assert choose_ports(file, ["kafka", "compose-1"], first=29_000) == first
    assert len(set(first.values())) == 2


def test_a_new_process_gets_a_port_beside_the_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = choose_ports(file, ["kafka"], first=23_200)
    more = choose_ports(file, ["kafka", "deliver-2"], first=23_200)
    assert more["kafka"] == first["kafka"] != more["deliver-2"]


def test_a_port_that_somebody_else_took_is_named_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    port = choose_ports(file, ["clickhouse"], first=23_300)["clickhouse"]
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortsGone) as caught:
        choose_ports(file, ["clickhouse"])
    for told in (str(port), "ClickHouse", "--new-ports"):
        assert told in str(caught.value)


def test_a_taken_port_is_passed_over_the_first_time(tmp_path: Path) -> None:
    free = choose_ports(tmp_path / "one.json", ["kafka"], first=23_400)["kafka"]
    with socket.create_server(("127.0.0.1", free)):
        assert choose_ports(tmp_path / "two.json", ["kafka"], first=23_400)["kafka"] > free


async def test_a_folder_in_use_is_neither_used_nor_wiped(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.make()
    async with Supervisor([], data=folder.path):
        with pytest.raises(FolderInUse):
            folder.make()
        with pytest.raises(FolderInUse):
            folder.wipe()
    folder.wipe()
    assert not folder.path.exists()


def test_a_folder_that_is_not_ours_is_not_wiped(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(NotOurs):
        DataFolder(tmp_path).wipe()
    assert (tmp_path / "thesis.txt").exists()
