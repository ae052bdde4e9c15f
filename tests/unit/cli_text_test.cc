// SPDX-License-Identifier: GPL-2.0-or-later
//
// What mirrorfs(8) prints, and what it makes of a daemon's answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "base/mount_table.h"
#include "cli/dirty_text.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/mirror_status.h"
#include "cli/resync_text.h"
#include "cli/status_text.h"
#include "cli/text.h"
#include "cli/where_text.h"

namespace mirrorfs {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Printable, LeavesTextAlone) {
  for (const char* text :
       {"", "plain", "a b", "\xc3\xa4\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
    EXPECT_EQ(Printable(text), text);
  }
}

TEST(Printable, EscapesWhatCouldDeceive) {
  EXPECT_EQ(Printable("a\nb\tc\\n"), "a\\nb\\tc\\\\n");
  EXPECT_EQ(Printable("\x1b[31m\x7f\r"), "\\x1b[31m\\x7f\\x0d");
  EXPECT_EQ(Printable(absl::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(Printable("\xff\xfe"), "\\xff\\xfe");
  EXPECT_EQ(Printable("\xc2\x9b"), "\\xc2\\x9b") << "C1 control sequence";
  EXPECT_EQ(Printable("\xe2\x80\xae"), "\\xe2\\x80\\xae") << "right to left";
  EXPECT_EQ(Printable("\xc3"), "\\xc3") << "cut short";
  EXPECT_EQ(Printable("\xe2\x82"), "\\xe2\\x82") << "cut short";
  EXPECT_EQ(Printable("\xc0\x80"), "\\xc0\\x80") << "overlong";
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "surrogate";
  EXPECT_EQ(Printable("\xf5\x80\x80\x80"), "\\xf5\\x80\\x80\\x80");
}

TEST(BinaryBytes, WithUnits) {
  EXPECT_EQ(BinaryBytes(0), "0 B");
  EXPECT_EQ(BinaryBytes(12), "12 B");
  EXPECT_EQ(BinaryBytes(104 << 20), "104 MiB");
}

TEST(RoughDuration, TwoUnitsAtMost) {
  EXPECT_EQ(RoughDuration(absl::Seconds(3)), "3s");
  EXPECT_EQ(RoughDuration(absl::Seconds(61)), "1m");
  EXPECT_EQ(RoughDuration(absl::Minutes(130)), "2h 10m");
  EXPECT_EQ(RoughDuration(absl::Hours(24 * 4 + 3)), "4d 3h");
}

TEST(AlignColumns, PadsAndTrims) {
  EXPECT_EQ(AlignColumns({{"a", "1"}, {"bbb", "22"}}, "lr", " "),
            " a     1\n bbb  22\n");
  EXPECT_EQ(AlignColumns({{"\xc3\xa4", "x"}, {"bb", ""}}, "ll", ""),
            "\xc3\xa4   x\nbb\n");
  EXPECT_EQ(AlignColumns({}, "l", ""), "");
}

json Leg(const std::string& name, const std::string& state) {
  return {{"name", name},
          {"path", "/mnt/" + name},
          {"state", state},
          {"primary", name == "a"},
          {"free_bytes", 812ull << 30},
          {"errors", {{"read", 0}, {"write", 0}, {"checksum", 0}}},
          {"dirty", {{"bytes", 0}, {"regions", 0}}}};
}

json Mirror(const std::string& state, json legs) {
  return {{"name", "keep"},
          {"uuid", "u"},
          {"mountpoint", "/srv/keep"},
          {"state", state},
          {"region_size", 1 << 20},
          {"log", {{"type", "disk"}, {"state", "ok"}, {"location", "a"}}},
          {"legs", std::move(legs)},
          {"pid", 7}};
}

TEST(StatusText, Healthy) {
  const MirrorStatus mirror = ParseMirrorStatus(
      Mirror("healthy", {Leg("a", "in-sync"), Leg("b", "in-sync")}));
  EXPECT_EQ(StatusText(mirror),
            "keep   /srv/keep   HEALTHY  2 of 2 legs in sync\n"
            "  log:    disk on leg a, region 1M, 0 dirty regions\n"
            "\n"
            "  LEG  PATH    STATE    FREE  READ  WRITE  CKSUM  DIRTY\n"
            "  a *  /mnt/a  in-sync  812G     0      0      0      0\n"
            "  b    /mnt/b  in-sync  812G     0      0      0      0\n"
            "  (* primary)\n"
            "errors: no known data errors\n");
  EXPECT_EQ(ExitCodeOf(mirror), kExitHealthy);
  EXPECT_EQ(mirror.pid, 7);
}

TEST(StatusText, CatchingUp) {
  json usb = Leg("usb", "resync");
  usb["errors"]["write"] = 3;
  usb["dirty"] = {
      {"bytes", 222298112}, {"regions", 212}, {"files", 9}, {"directories", 3}};
  usb["resync"] = {{"done_bytes", 412},
                   {"copied_bytes", 12},
                   {"total_bytes", 1000},
                   {"rate", 38'000'000},
                   {"eta_s", 3}};
  json mirror =
      Mirror("degraded", {Leg("a", "in-sync"), Leg("b", "in-sync"), usb});
  mirror["log"]["dirty_regions"] = 212;
  mirror["log"]["dirty_files"] = 9;
  mirror["log"]["dirty_directories"] = 3;
  mirror["legs"][1]["write_mostly"] = true;
  EXPECT_EQ(
      StatusText(ParseMirrorStatus(mirror)),
      "keep   /srv/keep   DEGRADED  2 of 3 legs in sync\n"
      "  status: leg \"usb\" is catching up.\n"
      "  action: none needed; writes are safe on 2 legs.\n"
      "  log:    disk on leg a, region 1M, 212 dirty regions in 9 files, "
      "3 dirty directories\n"
      "\n"
      "  LEG  PATH      STATE    FREE  READ  WRITE  CKSUM  DIRTY\n"
      "  a *  /mnt/a    in-sync  812G     0      0      0      0\n"
      "  b    /mnt/b    in-sync  812G     0      0      0      0  "
      "write-mostly\n"
      "  usb  /mnt/usb  resync   812G     0      3      0   212M  41.2%  38 "
      "MB/s  ~3s left\n"
      "  (* primary)\n"
      "  leg usb lacks 212 MiB: 212 regions in 9 files and 3 directories\n"
      "    412 B of 1.0 KiB done, 12 B of them copied\n"
      "errors: 3 on leg \"usb\"\n");
}

TEST(StatusText, ALegThatCannotBeHealed) {
  json usb = Leg("usb", "resync");
  usb["dirty"]["regions"] = 2;
  usb["resync"]["failing"] = {{"path", "a\nb"},
                              {"error", "No space left on device"}};
  json mirror = Mirror("resyncing", {Leg("a", "in-sync"), usb});
  const MirrorStatus status = ParseMirrorStatus(mirror);
  EXPECT_EQ(
      AdviceFor(status).status,
      "leg \"usb\" cannot be healed: \"a\\nb\": No space left on device.");
  EXPECT_EQ(AdviceFor(status).action.substr(0, 20), "that leg has space, ");
  mirror["legs"][1]["free_bytes"] = 4096;
  EXPECT_EQ(AdviceFor(ParseMirrorStatus(mirror)).action,
            "make space on that leg; it is tried again by itself.");
  EXPECT_NE(StatusText(status).find("    cannot be healed: \"a"),
            std::string::npos);
  mirror["legs"][1]["resync"]["failing"]["error"] = "Input/output error";
  EXPECT_NE(AdviceFor(ParseMirrorStatus(mirror)).action.find("replace"),
            std::string::npos);
  // What is worse is said first.
  mirror["legs"][0]["state"] = "failed";
  EXPECT_EQ(AdviceFor(ParseMirrorStatus(mirror)).status, "leg \"a\" failed.");
}

TEST(ResyncText, LineAndBar) {
  const ResyncState state = {412, 1000, 38'000'000, 3};
  EXPECT_EQ(ResyncLine(state), "412 B of 1.0 KiB  41.2%  38 MB/s  ~3s left");
  EXPECT_EQ(ResyncBar(state, 56),
            "[####------]  412 B of 1.0 KiB  41.2%  38 MB/s  ~3s left");
  EXPECT_EQ(ResyncBar(state, 55), ResyncLine(state));
  EXPECT_EQ(ResyncBar(state, 20), "412 B of 1.0 KiB  41");
  EXPECT_EQ(ResyncBar(state, -1), "");
  for (int columns = 0; columns < 200; ++columns) {
    EXPECT_LE(ResyncBar(state, columns).size(), static_cast<size_t>(columns));
  }
  EXPECT_EQ(ResyncLine({}), "looking for what differs");
  EXPECT_EQ(ResyncSpeed({5, 4, 1'500'000, 0}), "100.0%  1.5 MB/s");
}

TEST(ResyncText, LegsTogether) {
  json b = Leg("b", "resync");
  b["resync"] = {
      {"done_bytes", 10}, {"total_bytes", 100}, {"rate", 5}, {"eta_s", 18}};
  json c = b;
  c["resync"]["eta_s"] = 30;
  json done = b;
  done["state"] = "in-sync";
  const ResyncState sum = ResyncOf(ParseMirrorStatus(
      Mirror("resyncing", {Leg("a", "in-sync"), b, c, done})));
  EXPECT_EQ(sum.done_bytes, 20u);
  EXPECT_EQ(sum.total_bytes, 200u);
  EXPECT_EQ(sum.bytes_per_second, 10u);
  EXPECT_EQ(sum.eta_seconds, 30u);
}

TEST(StatusText, NamesCannotBreakLines) {
  json leg = Leg("a", "in-sync");
  leg["path"] = "/x\n\x1b[2J";
  const std::string text =
      StatusText(ParseMirrorStatus(Mirror("healthy", {leg})));
  EXPECT_THAT(text, HasSubstr("/x\\n\\x1b[2J"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(AdviceFor, TheWorstComesFirst) {
  const auto advice = [](const std::string& state, json legs) {
    return AdviceFor(ParseMirrorStatus(Mirror(state, std::move(legs))));
  };
  const Advice missing =
      advice("degraded", {Leg("a", "in-sync"), Leg("b", "missing"),
                          Leg("c", "missing"), Leg("d", "resync")});
  EXPECT_EQ(missing.status, "legs \"b\", \"c\" are missing.");
  EXPECT_THAT(missing.action, HasSubstr("bring it back"));
  EXPECT_THAT(missing.action, HasSubstr("safe on 1 leg."));
  EXPECT_THAT(advice("conflict", {Leg("a", "in-sync")}).action,
              HasSubstr("resolve --keep"));
  EXPECT_TRUE(advice("healthy", {Leg("a", "in-sync")}).status.empty());
}

TEST(ExitCodeOf, EveryState) {
  const auto code = [](const std::string& state) {
    return ExitCodeOf(ParseMirrorStatus(Mirror(state, {Leg("a", "in-sync")})));
  };
  EXPECT_EQ(code("healthy"), 0);
  EXPECT_EQ(code("degraded"), 3);
  EXPECT_EQ(code("resyncing"), 4);
  EXPECT_EQ(code("conflict"), 5);
  EXPECT_NE(code("what is this"), 0);
  json leg = Leg("a", "in-sync");
  leg["errors"]["checksum"] = 1;
  EXPECT_EQ(ExitCodeOf(ParseMirrorStatus(Mirror("healthy", {leg}))), 64);
}

TEST(MoreUrgent, Order) {
  EXPECT_EQ(MoreUrgent(0, 0), 0);
  EXPECT_EQ(MoreUrgent(0, 64), 64);
  EXPECT_EQ(MoreUrgent(4, 3), 3);
  EXPECT_EQ(MoreUrgent(3, 5), 5);
}

TEST(ParseMirrorStatus, OddAnswersDoNoHarm) {
  for (const char* text :
       {"null", "7", "[]", "\"x\"", "{}", "{\"legs\":7}", "{\"legs\":[7,null]}",
        "{\"legs\":{\"a\":1},\"log\":[],\"name\":3,\"pid\":\"x\"}",
        "{\"legs\":[{\"errors\":7,\"dirty\":{\"bytes\":-1}}]}",
        "{\"region_size\":1e300,\"pid\":1.5}"}) {
    const MirrorStatus mirror = ParseMirrorStatus(json::parse(text));
    EXPECT_FALSE(StatusText(mirror).empty()) << text;
    EXPECT_NE(ExitCodeOf(mirror), 0) << text;
  }
}

TEST(WhereText, SaysWhereAndWhatIsLacking) {
  const json leg = {{"name", "a"},
                    {"path", "/mnt/a"},
                    {"primary", true},
                    {"state", "current"},
                    {"stale", json::array()}};
  json stale = {{"name", "b"},
                {"path", "/mnt/b"},
                {"state", "stale"},
                {"attributes_stale", true},
                {"stale_bytes", 300},
                {"stale", json::array()}};
  for (int i = 0; i < 6; ++i) {
    stale["stale"].push_back({{"offset", i * 100}, {"bytes", 50}});
  }
  const json away = {{"name", "c"},
                     {"path", ""},
                     {"state", "missing"},
                     {"name_stale", true}};
  EXPECT_EQ(WhereText({{"path", "d/f"},
                       {"kind", "file"},
                       {"bytes", 600},
                       {"legs", {leg, stale, away}}}),
            "d/f   file, 600 B\n"
            "\n"
            "  LEG  PATH        STATE\n"
            "  a *  /mnt/a/d/f  current\n"
            "  b    /mnt/b/d/f  stale    lacks attributes, 300 B in 6 ranges "
            "[0..50) [100..150) [200..250) [300..350) ...\n"
            "  c    -           missing  lacks its name\n"
            "  (* primary)\n");
}

TEST(DirtyText, GroupsByFile) {
  const auto data = [](const char* path, uint64_t index) -> json {
    return {{"path", path},
            {"kind", "data"},
            {"offset", index << 20},
            {"bytes", 1 << 20},
            {"missing", {"usb"}}};
  };
  const json regions = {
      data("vm/win.qcow2", 5),
      data("vm/win.qcow2", 4),
      data("a\nb", 0),
      data("a\nb", 2),
      json{{"path", "docs"}, {"kind", "entries"}, {"deep", false}},
      json{{"path", ""}, {"kind", "entries"}, {"deep", true}},
      json{{"path", "x"}, {"kind", "attributes"}},
      json{{"path", "y"}, {"kind", "attributes"}, {"offset", 64 << 20}},
      json(7)};
  EXPECT_EQ(DirtyText(regions),
            "         all in      .\n"
            "  2 MiB  2 ranges    a\\nb\n"
            "         names in    docs\n"
            "  2 MiB  1 range     vm/win.qcow2  [4M..6M)\n"
            "         attributes  x\n"
            "         attributes  y             and all from 64M on\n");
  EXPECT_EQ(RegionsLackingOn(regions, "usb").size(), 4u);
  EXPECT_EQ(RegionsLackingOn(regions, "b").size(), 0u);
}

TEST(MountTable, ParsesMountinfo) {
  const auto table = ParseMountTable(
      "36 35 98:0 /mnt1 /mnt/a rw,noatime master:1 - ext3 /dev/root rw\n"
      "37 35 0:77 / /srv/a\\040b\\134 rw - fuse.mirrorfs keep rw\n"
      "38 35 0:78 / /mnt/a rw shared:1 propagate_from:2 - tmpfs t rw\n"
      "nonsense\n"
      "\n");
  ASSERT_EQ(table.size(), 3u);
  EXPECT_EQ(table[1].mount_point, "/srv/a b\\");
  EXPECT_EQ(table[1].device, "0:77");
  EXPECT_TRUE(IsMirrorMount(table[1]));
  EXPECT_EQ(FindMount(table, "/mnt/a")->type, "tmpfs") << "the one on top";
  EXPECT_EQ(FindMount(table, "/mnt"), nullptr);
}

TEST(AbsolutePath, IsOnlyText) {
  EXPECT_EQ(AbsolutePath("/a/b/"), "/a/b");
  EXPECT_EQ(AbsolutePath("/a/./b/../c"), "/a/c");
  EXPECT_EQ(AbsolutePath("/"), "/");
  EXPECT_EQ(AbsolutePath("//a//b"), "/a/b");
  EXPECT_EQ(AbsolutePath("x").front(), '/');
  EXPECT_EQ(PathWithRealParent("/proc/self/../self"), "/proc/self");
}

}  // namespace
}  // namespace mirrorfs
