# SPDX-License-Identifier: GPL-2.0-or-later
"""What an admin does to the legs of a mounted mirror, under load."""

import json
import errno
import os

import pytest

from support.mirror import MountFailed, process_exists, wait_until
from support.scene import BLOCK, fails_legs, missing_bytes

pytestmark = [pytest.mark.timeout_s(400), fails_legs]

MIB = 1 << 20


def leg_names(it):
    return [leg["name"] for leg in it.mirror.status()["legs"]]


def add_leg(it, path, name):
    """The scene has one more leg to compare in the end."""
    it.mirror.legs.append(path)
    it.stores.append(path)
    it.things.append(None)
    it.names.append(name)


def remove_leg(it, number):
    for things in (it.mirror.legs, it.stores, it.things, it.names):
        del things[number]


@pytest.mark.parametrize("number", [0, 1])
def test_offline_and_online(scene, number):
    it = scene("plain", "plain")
    it.start_load()
    it.mirror.cli("offline", it.mirror.mnt, it.names[number])
    it.wait_state(number, "offline")
    assert it.primary() == 1 - number
    it.load.progress()
    assert it.state(number) == "offline", "it came back unasked"
    it.stop_load()
    it.return_exactly(number, lambda: it.mirror.cli(
        "online", it.mirror.mnt, it.names[number]))
    it.start_load()
    it.mirror.cli("offline", it.mirror.mnt, it.names[number])
    it.load.progress()
    it.mirror.cli("online", it.mirror.mnt, it.names[number])
    it.finish()


def test_offline_survives_a_remount(scene):
    it = scene("plain", "plain")
    it.mirror.cli("offline", it.mirror.mnt, "b")
    (it.mirror.mnt / "f").write_bytes(b"x")
    it.mirror.umount()
    assert not (it.stores[1] / "f").exists()
    it.mirror.mount()
    assert it.state(1) == "offline"
    it.mirror.cli("online", it.mirror.mnt, "b")
    it.finish()


def test_the_last_leg_stays_online(scene):
    it = scene("plain", "plain")
    it.mirror.cli("offline", it.mirror.mnt, "b")
    result = it.mirror.cli("offline", it.mirror.mnt, "a", check=False)
    assert result.returncode != 0
    assert len(result.stderr.strip().splitlines()) == 1
    (it.mirror.mnt / "f").write_bytes(b"x")
    it.mirror.cli("online", it.mirror.mnt, "b")
    it.finish()


def test_attach(scene):
    it = scene("plain", "plain")
    it.start_load()
    (it.mirror.mnt / "big").write_bytes(os.urandom(8 * MIB))
    path = it.mirror.legs[0].with_name("new")
    path.mkdir()
    it.mirror.cli("attach", it.mirror.mnt, path, "--name", "third")
    assert "third" in leg_names(it)
    it.load.progress()
    add_leg(it, path, "third")
    it.finish()


@pytest.mark.parametrize("what", ["full", "file", "inside", "leg", "absent"])
def test_attach_refuses(scene, what):
    """What is not an empty directory of its own."""
    it = scene("plain", "plain")
    path = it.mirror.legs[0].with_name("new")
    if what == "full":
        path.mkdir()
        (path / "precious").write_text("x")
    elif what == "file":
        path.write_text("x")
    elif what == "inside":
        path = it.mirror.mnt / "d"
        path.mkdir()
    elif what == "leg":
        path = it.mirror.legs[1]
    result = it.mirror.cli("attach", it.mirror.mnt, path, check=False)
    assert result.returncode != 0
    assert len(result.stderr.strip().splitlines()) == 1
    assert len(leg_names(it)) == 2
    it.finish()


@pytest.mark.parametrize("number", [0, 2])
def test_detach(scene, number):
    it = scene("plain", "plain", "plain")
    it.start_load()
    it.mirror.cli("detach", it.mirror.mnt, it.names[number])
    assert it.names[number] not in leg_names(it)
    gone = it.stores[number]
    remove_leg(it, number)
    it.load.progress()
    it.finish()
    assert list(gone.iterdir()), "its files are its own"


def test_an_off_site_disk(scene):
    """detach --track: home once a month, it gets only the changes."""
    it = scene("plain", "plain", "faulty")
    (it.mirror.mnt / "big").write_bytes(os.urandom(16 * MIB))
    it.mirror.wait_sync()
    it.mirror.cli("detach", it.mirror.mnt, "c", "--track")
    it.things[2].die()
    it.start_load()
    it.load.progress(20)
    it.stop_load()
    it.mirror.umount()
    it.mirror.mount(legs=it.mirror.legs[:2])
    (it.mirror.mnt / "new").write_bytes(os.urandom(MIB))
    needed = missing_bytes(it.stores[0], it.stores[2])
    it.things[2].restart()
    it.mirror.cli("attach", it.mirror.mnt, it.mirror.legs[2])
    it.wait_back(2)
    assert it.copied(2) <= 1.1 * needed + BLOCK
    it.finish()


@pytest.mark.parametrize("number", [0, 1])
def test_replace(scene, number):
    it = scene("plain", "plain")
    (it.mirror.mnt / "big").write_bytes(os.urandom(8 * MIB))
    it.start_load()
    path = it.mirror.legs[0].with_name("new")
    path.mkdir()
    it.mirror.cli("replace", it.mirror.mnt, it.names[number], path)
    it.load.progress()
    # The old one is there until the new one is whole.
    status = it.mirror.status()
    whole = [leg for leg in status["legs"] if leg["state"] == "in-sync"]
    assert len(whole) >= 2, status
    it.mirror.wait_sync()
    legs = it.mirror.status()["legs"]
    assert len(legs) == 2
    it.mirror.legs[number] = it.stores[number] = path
    it.names[number] = next(leg["name"] for leg in legs
                            if leg["path"] == str(path))
    it.finish()


def test_replace_a_dead_leg(scene):
    it = scene("plain", "faulty")
    it.start_load()
    it.things[1].die()
    it.wait_state(1, "failed", "missing")
    path = it.mirror.legs[0].with_name("new")
    path.mkdir()
    it.mirror.cli("replace", it.mirror.mnt, "b", path)
    it.load.progress()
    it.mirror.wait_sync()
    it.mirror.legs[1] = it.stores[1] = path
    it.names[1] = next(leg["name"] for leg in it.mirror.status()["legs"]
                       if leg["path"] == str(path))
    it.finish()


def test_promote(scene):
    it = scene("plain", "plain", "faulty")
    it.start_load()
    for number in (1, 2, 0, 1):
        it.mirror.cli("promote", it.mirror.mnt, it.names[number])
        assert it.primary() == number
        it.load.progress(10)
    it.things[2].die()
    it.wait_state(2, "failed", "missing")
    result = it.mirror.cli("promote", it.mirror.mnt, "c", check=False)
    assert result.returncode != 0, "a leg that is not in sync"
    assert it.primary() == 1
    it.things[2].restart()
    it.finish()


def test_resync_finds_what_was_changed_by_hand(scene):
    it = scene("plain", "plain")
    for n in range(20):
        (it.mirror.mnt / f"f{n}").write_bytes(os.urandom(100000))
    it.mirror.wait_sync()
    with open(it.stores[1] / "f3", "r+b") as file:
        file.write(b"by hand")
    (it.stores[1] / "f4").unlink()
    (it.stores[1] / "more").write_bytes(b"x")
    it.start_load()
    it.mirror.cli("resync", it.mirror.mnt, "b", "--first", "f3", "--wait")
    it.finish()


def test_clear_error_counters(scene):
    it = scene("plain", "faulty")
    it.things[1].fail("write", 5, count=1, spare_private=True)
    (it.mirror.mnt / "f").write_bytes(b"x")
    it.wait_back(1)
    assert it.leg(1)["errors"]["write"] > 0
    it.mirror.cli("clear", it.mirror.mnt, "b")
    assert it.leg(1)["errors"]["write"] == 0
    it.finish()


def test_replace_goes_on_after_a_crash(scene):
    it = scene("plain", "plain")
    (it.mirror.mnt / "big").write_bytes(os.urandom(8 * MIB))
    it.mirror.wait_sync()
    it.mirror.cli("set", it.mirror.mnt, "resync-rate-max=1M")
    path = it.mirror.legs[0].with_name("new")
    path.mkdir()
    it.mirror.cli("replace", it.mirror.mnt, "a", path, "--name", "third")
    assert leg_names(it) == ["a", "b", "third"]
    it.mirror.kill9()
    it.mirror.mount(legs=[*it.mirror.legs, path])
    it.mirror.wait_sync()
    assert leg_names(it) == ["b", "third"]
    it.mirror.legs[0] = it.stores[0] = path
    it.names[0] = "third"
    it.finish()


def test_a_detached_leg_is_left_out_at_the_next_mount(scene):
    """Also where its label could not be taken away."""
    it = scene("plain", "plain", "faulty")
    it.things[2].die()
    it.wait_state(2, "failed", "missing")
    it.mirror.cli("detach", it.mirror.mnt, "c")
    assert leg_names(it) == ["a", "b"]
    (it.mirror.mnt / "f").write_bytes(b"x")
    it.mirror.umount()
    it.things[2].restart()
    it.mirror.mount()
    assert leg_names(it) == ["a", "b"]
    assert not (it.stores[2] / "f").exists()
    result = it.mirror.cli("attach", it.mirror.mnt, it.mirror.legs[2],
                           check=False)
    assert result.returncode != 0 and "detached" in result.stderr
    remove_leg(it, 2)
    it.finish()


def test_a_leg_that_is_offline_is_not_served_alone(scene):
    """It does not have what was acknowledged since; if nothing else is left,
    it can be taken all the same."""
    it = scene("plain", "plain")
    it.mirror.cli("offline", it.mirror.mnt, "b")
    (it.mirror.mnt / "f").write_bytes(b"x")
    it.mirror.umount()
    lost = it.mirror.legs[0].with_name("lost")
    with pytest.raises(MountFailed):
        it.mirror.mount(legs=[lost, it.mirror.legs[1]])
    it.mirror.cli("resolve", "--keep", it.mirror.legs[1], it.mirror.legs[1])
    it.mirror.mount(legs=[lost, it.mirror.legs[1]])
    assert not (it.mirror.mnt / "f").exists()
    it.mirror.umount()


def test_a_conflict_with_a_leg_that_lay_elsewhere(scene):
    """Its path is the one that attach was told."""
    it = scene("plain", "plain")
    mirror, mnt = it.mirror, it.mirror.mnt
    a, b = mirror.legs
    absent = mirror.base / "absent"
    (mnt / "f").write_bytes(b"both")
    mirror.umount()
    mirror.mount(legs=[absent, b])
    (mnt / "f").write_bytes(b"b alone")
    mirror.umount()
    mirror.mount(legs=[a, absent])
    (mnt / "f").write_bytes(b"a alone")
    refused = mirror.cli("attach", mnt, b, check=False)
    assert refused.returncode != 0
    assert it.state(1) == "conflict"
    mirror.cli("resolve", mnt, "--keep", "a")
    it.wait_back()
    assert (mnt / "f").read_bytes() == b"a alone"
    it.finish()


def test_a_late_leg_of_an_unchanged_mirror_lacks_nothing(scene):
    """README's disk that is plugged in later."""
    it = scene("plain", "plain")
    mirror, mnt = it.mirror, it.mirror.mnt
    (mnt / "f").write_bytes(b"x" * (1 << 20))
    mirror.umount()
    leg = mirror.legs[1]
    away = leg.with_name("away")
    leg.rename(away)
    mirror.mount()
    assert it.state(1) == "missing"
    away.rename(leg)
    it.wait_back(1)
    events = mirror.cli("events", mnt).stdout
    assert "leg-back" in events
    assert "compared whole" not in events
    it.finish()


def test_a_conflict_is_resolved_while_mounted(scene):
    it = scene("plain", "plain")
    legs = it.mirror.legs
    (it.mirror.mnt / "common").write_bytes(b"x")
    it.mirror.umount()
    absent = legs[0].with_name("absent")
    for number in (1, 0):
        it.mirror.mount(legs=[legs[number], absent])
        (it.mirror.mnt / "which").write_bytes(b"%d" % number)
        if number == 1:
            it.mirror.umount()
    legs[1].rename(absent)
    it.wait_state(1, "conflict")
    (it.mirror.mnt / "more").write_bytes(b"x")
    result = it.mirror.cli("resolve", "--keep", "b", it.mirror.mnt,
                           check=False)
    assert result.returncode != 0
    assert len(result.stderr.strip().splitlines()) == 1
    assert it.state(1) == "conflict"
    it.mirror.cli("resolve", "--keep", "a", it.mirror.mnt, "--dry-run")
    assert it.state(1) == "conflict"
    it.mirror.cli("resolve", "--keep", "a", it.mirror.mnt)
    it.wait_back(1)
    assert (it.mirror.mnt / "which").read_bytes() == b"0"
    it.mirror.legs[1] = it.stores[1] = absent
    it.finish()


def test_resync_of_all_and_what_cannot_be(scene):
    it = scene("plain", "plain", "plain")
    (it.mirror.mnt / "d").mkdir()
    for n in range(5):
        (it.mirror.mnt / "d" / f"f{n}").write_bytes(os.urandom(100000))
    it.mirror.wait_sync()
    for number in (1, 2):
        (it.stores[number] / "d" / "f1").write_bytes(b"by hand")
    for words in (["a"], ["--first", "none"], ["b", "--first", "../d"]):
        result = it.mirror.cli("resync", it.mirror.mnt, *words, check=False)
        assert result.returncode != 0, words
        assert len(result.stderr.strip().splitlines()) == 1
    it.mirror.cli("resync", it.mirror.mnt, "--first", it.mirror.mnt / "d",
                  "--wait")
    it.assert_legs_identical(0, 1, 2)
    it.finish()


def test_dry_run_and_json(scene):
    it = scene("plain", "plain")
    spare = it.mirror.legs[0].with_name("new")
    spare.mkdir()
    before = it.mirror.status()
    for words in (["offline", it.mirror.mnt, "b"],
                  ["attach", it.mirror.mnt, spare],
                  ["detach", it.mirror.mnt, "b"],
                  ["replace", it.mirror.mnt, "b", spare],
                  ["promote", it.mirror.mnt, "b"]):
        result = it.mirror.cli(*words, "--dry-run", "--json")
        json.loads(result.stdout)
        after = it.mirror.status()
        assert [(leg["name"], leg["state"]) for leg in after["legs"]] == \
            [(leg["name"], leg["state"]) for leg in before["legs"]]
        assert after["primary"] == before["primary"]
    assert os.listdir(spare) == []
    it.finish()


@pytest.mark.parametrize("command", ["offline", "online", "detach", "promote",
                                     "resync", "clear"])
def test_no_such_leg(scene, command):
    it = scene("plain", "plain")
    result = it.mirror.cli(command, it.mirror.mnt, "nobody", check=False)
    assert result.returncode != 0 and "nobody" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert process_exists(it.mirror.daemon_pid)
    it.finish()


def test_a_leg_that_was_never_here_is_taken_out(scene):
    it = scene("plain", "plain", options=["probe-interval=0"])
    away = it.mirror.legs[1].with_name("away")
    it.mirror.umount()
    it.mirror.legs[1].rename(away)
    it.mirror.mount()
    it.mirror.cli("offline", it.mirror.mnt, "b")
    assert it.state(1) == "offline"
    (it.mirror.mnt / "f").write_bytes(b"x")
    away.rename(it.mirror.legs[1])
    it.mirror.cli("online", it.mirror.mnt, "b")
    it.finish()


def test_offline_that_cannot_be_written_down(scene):
    """It has not happened then: the leg comes back by itself."""
    it = scene("plain", "faulty", "faulty")
    it.things[1].die()
    (it.mirror.mnt / "f").write_bytes(b"x")
    it.wait_out(1)
    rule = it.things[2].fail("write", errno.EIO, path=".mirrorfs/label*")
    result = it.mirror.cli("offline", it.mirror.mnt, "b", check=False)
    assert result.returncode != 0 and it.things[2].struck(rule) > 0
    it.things[2].clear()
    it.things[1].restart()
    it.wait_back()
    it.finish()


def test_what_is_said_of_a_leg_that_comes_or_goes_for_good(scene, base):
    """A new leg is not back, and who has all the legs left is not degraded."""
    it = scene("plain", "plain", "plain")
    mirror = it.mirror
    (mirror.mnt / "f").write_bytes(b"x")
    spare = base / "m" / "spare"
    spare.mkdir()
    mirror.cli("replace", mirror.mnt, it.names[1], spare)
    mirror.wait_sync()
    wait_until(lambda: it.names[1] not in
               [leg["name"] for leg in mirror.status()["legs"]],
               what="the old leg to be let go")
    mirror.cli("detach", mirror.mnt, it.names[2])
    names = [event["name"] for event in json.loads(
        mirror.cli("events", mirror.mnt, "--json").stdout)["events"]]
    assert names.count("leg-attached") == 1
    assert names.count("leg-offline") == 2
    assert "leg-back" not in names and "degraded" not in names
    assert mirror.status()["state"] == "healthy"
    mirror.umount()
    it.assert_legs_identical(0)
