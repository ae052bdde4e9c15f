// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace mirrorfs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<MountOptions> Parse(const std::string& list) {
  return ParseMountOptions({list}, /*sloppy=*/false);
}

std::string ErrorOf(const std::string& list) {
  return std::string(Parse(list).status().message());
}

absl::StatusOr<MountCommand> Command(std::vector<const char*> words) {
  words.insert(words.begin(), "mount.mirrorfs");
  return ParseMountCommandLine(static_cast<int>(words.size()), words.data());
}

TEST(ParseLegList, SplitsAtColons) {
  EXPECT_THAT(*ParseLegList("/a:/b/c:/d"), ElementsAre("/a", "/b/c", "/d"));
  EXPECT_THAT(*ParseLegList("a b:c,d"), ElementsAre("a b", "c,d"));
}

TEST(ParseLegList, EscapedColonIsPartOfThePath) {
  EXPECT_THAT(*ParseLegList("/a\\:b:/c"), ElementsAre("/a:b", "/c"));
  EXPECT_THAT(*ParseLegList("/a\\\\:/c"), ElementsAre("/a\\", "/c"));
  EXPECT_THAT(*ParseLegList("/a\\x:/c\\"), ElementsAre("/a\\x", "/c\\"));
}

TEST(ParseLegList, RefusesEmptyAndLonelyLegs) {
  for (const char* spec : {"", ":", "/a", "/a:", ":/a", "/a::/b", "/a\\:/b"}) {
    EXPECT_FALSE(ParseLegList(spec).ok()) << spec;
  }
}

TEST(ParseLegList, RefusesMoreLegsThanALogCanName) {
  std::string spec = "/0";
  for (int i = 1; i < 64; ++i) spec += ":/" + std::to_string(i);
  EXPECT_TRUE(ParseLegList(spec).ok());
  EXPECT_FALSE(ParseLegList(spec + ":/64").ok());
}

TEST(FormatLegList, IsTheInverse) {
  const std::vector<std::string> legs = {"/a:b", "/c\\", "/d\\:", "/e f,g\n"};
  EXPECT_EQ(*ParseLegList(FormatLegList(legs)), legs);
}

TEST(ParseMountOptions, Defaults) {
  const MountOptions options = *Parse("");
  EXPECT_EQ(options.log, "disk");
  EXPECT_EQ(options.region_bytes, 0u);
  EXPECT_EQ(options.min_legs, 1);
  EXPECT_EQ(options.threads, 0);
  EXPECT_EQ(options.cache, CacheMode::kWriteThrough);
  EXPECT_EQ(options.read_policy.kind, ReadPolicy::Kind::kPrimary);
  EXPECT_EQ(options.wait_legs, absl::ZeroDuration());
  EXPECT_FALSE(options.create || options.foreground || options.remount);
  EXPECT_FALSE(options.read_only || options.suid || options.dev);
  EXPECT_TRUE(options.exec);
  EXPECT_EQ(options.allow_other, geteuid() == 0);
  EXPECT_TRUE(options.given.empty());
}

TEST(ParseMountOptions, EveryOption) {
  const MountOptions options = *Parse(
      "rw,log=disk,log-dir=/var/lib/m,region-size=64K,name=keep,min-legs=2,"
      "wait-legs=15s,create,read-policy=prefer=fast one,threads=8,"
      "cache=writeback,attr-timeout=500ms,entry-timeout=inf,"
      "negative-timeout=1m,foreground,no-allow-other,ro,suid,dev,noexec,sync,"
      "dirsync,noatime,remount,write-mostly=b:c\\:d");
  EXPECT_EQ(options.log_dir, "/var/lib/m");
  EXPECT_EQ(options.region_bytes, 65536u);
  EXPECT_EQ(options.name, "keep");
  EXPECT_EQ(options.min_legs, 2);
  EXPECT_EQ(options.wait_legs, absl::Seconds(15));
  EXPECT_TRUE(options.create);
  EXPECT_EQ(options.read_policy.kind, ReadPolicy::Kind::kPreferLeg);
  EXPECT_EQ(options.read_policy.leg, "fast one");
  EXPECT_EQ(options.write_mostly, (std::vector<std::string>{"b", "c:d"}));
  EXPECT_EQ(options.threads, 8);
  EXPECT_EQ(options.cache, CacheMode::kWriteBack);
  EXPECT_EQ(options.attr_timeout, absl::Milliseconds(500));
  EXPECT_EQ(options.entry_timeout, absl::InfiniteDuration());
  EXPECT_EQ(options.negative_timeout, absl::Minutes(1));
  EXPECT_TRUE(options.foreground);
  EXPECT_FALSE(options.allow_other);
  EXPECT_TRUE(options.read_only && options.suid && options.dev);
  EXPECT_FALSE(options.exec);
  EXPECT_TRUE(options.sync && options.dirsync && options.remount);
  EXPECT_EQ(options.atime, AtimeMode::kNoatime);
}

TEST(ParseMountOptions, UnderscoresAreAsGood) {
  EXPECT_EQ(Parse("region_size=1M")->region_bytes, 1u << 20);
  EXPECT_TRUE(Parse("allow_other")->allow_other);
  EXPECT_TRUE(Parse("default_permissions").ok());
  // Values are left alone.
  EXPECT_EQ(Parse("name=a_b")->name, "a_b");
}

TEST(ParseMountOptions, LastOfANameWins) {
  EXPECT_FALSE(Parse("ro,rw")->read_only);
  EXPECT_EQ(ParseMountOptions({"log=core", "log=disk"}, false)->log, "disk");
}

TEST(ParseMountOptions, QuotesAndEscapes) {
  EXPECT_EQ(Parse("log-dir=\"/a,b\",ro")->log_dir, "/a,b");
  EXPECT_TRUE(Parse("log-dir=\"/a,b\",ro")->read_only);
  EXPECT_EQ(Parse("log-dir=/a\\,b")->log_dir, "/a,b");
  EXPECT_EQ(Parse("name=\"say \\\"x\\\"\"")->name, "say \"x\"");
  EXPECT_EQ(Parse("name=a\\\\")->name, "a\\");
  EXPECT_EQ(Parse("name=a\\b")->name, "a\\b");
  EXPECT_EQ(Parse("name=a=b")->name, "a=b");
  EXPECT_THAT(ErrorOf("name=\"a,ro"), HasSubstr("not closed"));
}

TEST(ParseMountOptions, OtherProgramsWordsAreIgnored) {
  const auto options = Parse(
      "defaults,auto,noauto,nofail,_netdev,user,users,owner,group,comment=x y,"
      "x-systemd.after=/mnt/a,X-mount.mkdir,lazytime,nodiratime,,");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->given.empty());
}

TEST(ParseMountOptions, UnknownOptionIsNamed) {
  EXPECT_THAT(ErrorOf("ro,frobnicate=7"), HasSubstr("\"frobnicate=7\""));
  EXPECT_THAT(ErrorOf("legs=2"), HasSubstr("\"legs=2\""));
  EXPECT_THAT(ErrorOf("=x"), HasSubstr("\"=x\""));
  EXPECT_TRUE(ParseMountOptions({"frobnicate=7,ro"}, true)->read_only);
}

TEST(ParseMountOptions, FuseOwnWordsAreRefused) {
  EXPECT_THAT(ErrorOf("max_read=4096"), HasSubstr("max_read"));
  EXPECT_THAT(ErrorOf("direct_io"), HasSubstr("cache=none"));
  EXPECT_TRUE(ParseMountOptions({"max_read=4096"}, true).ok());
}

TEST(ParseMountOptions, BadValuesAreNamed) {
  for (const char* word : {"log=tape",
                           "log-dir=x",
                           "log-dir=",
                           "region-size=3M",
                           "region-size=2K",
                           "region-size=2G",
                           "region-size=x",
                           "region-size=-1M",
                           "name=",
                           "name=a/b",
                           "name=a\nb",
                           "min-legs=0",
                           "min-legs=65",
                           "min-legs=x",
                           "threads=0",
                           "threads=100000",
                           "cache=yes",
                           "read-policy=",
                           "read-policy=prefer=",
                           "read-policy=least",
                           "write-mostly=:",
                           "write-mostly=a:",
                           "attr-timeout=-1",
                           "attr-timeout=soon",
                           "wait-legs=inf"}) {
    EXPECT_THAT(ErrorOf(word), HasSubstr(word));
  }
}

TEST(ParseMountOptions, ReadPoliciesAreShownAsTheyAreWritten) {
  for (const std::string word :
       {"read-policy=primary", "read-policy=round-robin",
        "read-policy=least-pending", "read-policy=prefer=a",
        "write-mostly=", "write-mostly=a", "write-mostly=a:b\\:c"}) {
    const std::string name = word.substr(0, word.find('='));
    EXPECT_EQ(name + "=" + FindMountOption(name)->show(*Parse(word)), word);
  }
}

TEST(ParseMountOptions, ValuesWhereTheyBelong) {
  EXPECT_THAT(ErrorOf("ro=1"), HasSubstr("takes no value"));
  EXPECT_THAT(ErrorOf("log"), HasSubstr("needs a value"));
  EXPECT_THAT(ErrorOf("log=core,log-dir=/x"), HasSubstr("log=disk"));
}

TEST(ParseMountOptions, SloppyStillChecksWhatItKnows) {
  EXPECT_FALSE(ParseMountOptions({"min-legs=x"}, true).ok());
}

TEST(ParseMountOptions, RemembersWhatWasGiven) {
  const MountOptions options = *Parse("rw,nofail,read_policy=primary");
  ASSERT_EQ(options.given.size(), 2u);
  EXPECT_EQ(options.given[0].name, "rw");
  EXPECT_EQ(options.given[1].name, "read-policy");
  EXPECT_EQ(options.given[1].value, "primary");
}

TEST(FuseMountWords, SafeByDefault) {
  EXPECT_THAT(
      FuseMountWords(*Parse("no-allow-other")),
      ElementsAre("rw", "nosuid", "nodev", "exec", "default_permissions"));
  EXPECT_THAT(
      FuseMountWords(*Parse("ro,suid,dev,noexec,sync,dirsync,allow_other")),
      ElementsAre("ro", "suid", "dev", "noexec", "sync", "dirsync",
                  "allow_other", "default_permissions"));
}

TEST(ParseMountCommandLine, AsMountCallsIt) {
  const auto command = Command({"/a:/b", "/mnt", "-t", "fuse.mirrorfs", "-s",
                                "-n", "-v", "-o", "rw,noatime,_netdev,what"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->action, MountCommand::Action::kMount);
  EXPECT_EQ(command->spec, "/a:/b");
  EXPECT_THAT(command->legs, ElementsAre("/a", "/b"));
  EXPECT_EQ(command->mount_point, "/mnt");
  EXPECT_TRUE(command->verbose);
  EXPECT_EQ(command->options.atime, AtimeMode::kNoatime);
  EXPECT_FALSE(command->options.foreground);
}

TEST(ParseMountCommandLine, AnyOrder) {
  const auto command = Command(
      {"-o", "ro", "/a:/b", "-olog=core", "-N", "7", "/mnt", "-w", "-v"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->mount_point, "/mnt");
  EXPECT_EQ(command->options.log, "core");
  EXPECT_FALSE(command->options.read_only);
  EXPECT_TRUE(Command({"-r", "/a:/b", "/mnt"})->options.read_only);
}

TEST(ParseMountCommandLine, SloppyCountsWhereverItStands) {
  EXPECT_TRUE(Command({"/a:/b", "/mnt", "-o", "what", "-s"}).ok());
  EXPECT_FALSE(Command({"/a:/b", "/mnt", "-o", "what"}).ok());
}

TEST(ParseMountCommandLine, FirstMeansForegroundLastMeansFake) {
  const auto foreground = Command({"-f", "/a:/b", "/mnt"});
  EXPECT_EQ(foreground->action, MountCommand::Action::kMount);
  EXPECT_TRUE(foreground->options.foreground);

  const auto fake = Command({"/a:/b", "/mnt", "-f", "-o", "rw"});
  EXPECT_EQ(fake->action, MountCommand::Action::kFake);
  EXPECT_FALSE(fake->options.foreground);
  EXPECT_FALSE(Command({"/a:/b", "/mnt", "-f", "-o", "bad"}).ok());

  for (const char* word : {"-F", "--foreground", "-oforeground"}) {
    const auto anywhere = Command({"/a:/b", "/mnt", word});
    EXPECT_EQ(anywhere->action, MountCommand::Action::kMount);
    EXPECT_TRUE(anywhere->options.foreground);
  }
}

TEST(ParseMountCommandLine, HelpAndVersionNeedNothingElse) {
  EXPECT_EQ(Command({"--help"})->action, MountCommand::Action::kHelp);
  EXPECT_EQ(Command({"-V"})->action, MountCommand::Action::kVersion);
}

TEST(ParseMountCommandLine, BadWords) {
  for (const std::vector<const char*>& words :
       std::vector<std::vector<const char*>>{{},
                                             {"/a:/b"},
                                             {"/a:/b", ""},
                                             {"/a:/b", "/mnt", "/more"},
                                             {"/a", "/mnt"},
                                             {"/a:/b", "/mnt", "-o"},
                                             {"/a:/b", "/mnt", "-x"},
                                             {"/a:/b", "/mnt", "--frob"}}) {
    const auto command = Command(words);
    EXPECT_FALSE(command.ok());
    EXPECT_EQ(command.status().message().find('\n'), absl::string_view::npos);
  }
}

TEST(ParseMountCommandLine, DashDashEndsFlags) {
  const auto command = Command({"-v", "--", "-a:-b", "-mnt"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_THAT(command->legs, ElementsAre("-a", "-b"));
}

TEST(ParseMountCommandLine, RemountTakesAnySource) {
  const auto command = Command({"keep", "/mnt", "-o", "rw,remount,threads=2"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_TRUE(command->legs.empty());
  EXPECT_TRUE(command->options.remount);
}

TEST(MountOptionTable, IsCompleteAndWithoutDoubles) {
  std::set<std::string> names;
  const std::string help = MountUsage();
  for (const MountOptionInfo& info : MountOptionTable()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    const bool ours = info.kind == MountOptionInfo::Kind::kFlag ||
                      info.kind == MountOptionInfo::Kind::kValue;
    EXPECT_EQ(ours, info.apply != nullptr) << info.name;
    if (!ours) continue;
    EXPECT_THAT(help, HasSubstr(info.help));
    EXPECT_THAT(help, HasSubstr(std::string("  ") + info.name));
  }
}

}  // namespace
}  // namespace mirrorfs
