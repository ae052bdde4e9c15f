// SPDX-License-Identifier: GPL-2.0-or-later
//
// The workloads of the benchmark: load NAME AMOUNT DIR [DIR]
//
// With two directories every change is made in the one and then in the other:
// that is the native limit of a mirror of two legs ("both dirs"). With one it
// is what the file systems are measured with, so that all contenders run the
// same code. Prints one number: operations, files or MiB in a second.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kBlock = 4096, kChunk = 1 << 20, kBigMiB = 256, kDirs = 20 };
enum { kFiles = 2000, kJobs = 4, kAppendMax = 256 << 20, kPerDir = 1000 };

static char** roots;
static int n_roots;
static char* buffer;

typedef struct {
  int fd[2];
} Pair;

static void Die(const char* what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void Must(int bad, const char* what) {
  if (bad) Die(what);
}

static double Now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char* At(int root, const char* name) {
  static char path[2][4096];
  static int turn;
  turn = !turn;
  snprintf(path[turn], sizeof path[turn], "%s/%s", roots[root], name);
  return path[turn];
}

static Pair Open(const char* name, int flags) {
  Pair pair = {{-1, -1}};
  for (int i = 0; i < n_roots; i++) {
    pair.fd[i] = open(At(i, name), flags, 0644);
    Must(pair.fd[i] < 0, name);
  }
  return pair;
}

static void Close(Pair pair) {
  for (int i = 0; i < n_roots; i++) close(pair.fd[i]);
}

static void Write(Pair pair, size_t size, off_t offset) {
  for (int i = 0; i < n_roots; i++)
    Must(pwrite(pair.fd[i], buffer, size, offset) != (ssize_t)size, "write");
}

static void Append(Pair pair) {
  for (int i = 0; i < n_roots; i++)
    Must(write(pair.fd[i], buffer, kBlock) != kBlock, "append");
}

static void Sync(Pair pair) {
  for (int i = 0; i < n_roots; i++) Must(fsync(pair.fd[i]) != 0, "fsync");
}

static void DataSync(Pair pair) {
  for (int i = 0; i < n_roots; i++)
    Must(fdatasync(pair.fd[i]) != 0, "fdatasync");
}

static void Fill(Pair pair, int mib) {
  for (int i = 0; i < mib; i++) Write(pair, kChunk, (off_t)i * kChunk);
}

static void Unlink(const char* name) {
  for (int i = 0; i < n_roots; i++)
    Must(unlink(At(i, name)) != 0 && errno != ENOENT, "unlink");
}

static off_t RandomBlock(uint64_t* state, int mib) {
  *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
  return (off_t)((*state >> 33) % ((uint64_t)mib * kChunk / kBlock)) * kBlock;
}

// A file of its full size, on the disk, so that no later write allocates.
static void Prepare(const char* name, int mib) {
  Pair pair = Open(name, O_RDWR | O_CREAT | O_TRUNC);
  Fill(pair, mib);
  Sync(pair);
  Close(pair);
}

static double Setup(double unused) {
  (void)unused;
  Prepare("commit0", 8);
  Prepare("commit1", 8);
  Prepare("commit2", 8);
  Prepare("commit3", 8);
  Prepare("random", 64);
  return 0;
}

static double SeqWrite(double unused) {
  (void)unused;
  Unlink("big");
  double start = Now();
  Pair pair = Open("big", O_RDWR | O_CREAT | O_EXCL);
  Fill(pair, kBigMiB);
  Sync(pair);
  double took = Now() - start;
  Close(pair);
  return kBigMiB / took;
}

// The same blocks again. The sync that follows is not measured: it keeps the
// writing back from disturbing who comes next.
static double Rewrite(double unused) {
  (void)unused;
  Pair pair = Open("big", O_RDWR);
  double start = Now();
  Fill(pair, kBigMiB);
  double took = Now() - start;
  Sync(pair);
  Close(pair);
  return kBigMiB / took;
}

static void ReadBig(void) {
  int fd = open(At(0, "big"), O_RDONLY);
  Must(fd < 0, "open to read");
  while (read(fd, buffer, kChunk) > 0) {
  }
  close(fd);
}

static double WarmRead(double unused) {
  (void)unused;
  ReadBig();
  double start = Now();
  for (int i = 0; i < 4; i++) ReadBig();
  return 4 * kBigMiB / (Now() - start);
}

static long Commit(int job, double seconds) {
  char name[16];
  snprintf(name, sizeof name, "commit%d", job);
  Pair pair = Open(name, O_RDWR);
  uint64_t state = (uint64_t)job + 1;
  long count = 0;
  for (double end = Now() + seconds; Now() < end; count++) {
    Write(pair, kBlock, RandomBlock(&state, 8));
    DataSync(pair);
  }
  Close(pair);
  return count;
}

static double CommitOne(double seconds) {
  double start = Now();
  long count = Commit(0, seconds);
  return (double)count / (Now() - start);
}

static double CommitFour(double seconds) {
  long* counts = mmap(NULL, kJobs * sizeof *counts, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  Must(counts == MAP_FAILED, "mmap");
  double start = Now();
  for (int job = 0; job < kJobs; job++)
    if (fork() == 0) {
      counts[job] = Commit(job, seconds);
      _exit(0);
    }
  int status;
  while (wait(&status) > 0) Must(status != 0, "a job");
  double took = Now() - start, sum = 0;
  for (int job = 0; job < kJobs; job++) sum += (double)counts[job];
  return sum / took;
}

static double RandomWrite(double seconds) {
  Pair pair = Open("random", O_RDWR);
  uint64_t state = 7;
  long count = 0;
  double start = Now();
  for (; Now() < start + seconds; count++)
    Write(pair, kBlock, RandomBlock(&state, 64));
  double took = Now() - start;
  Sync(pair);
  Close(pair);
  return (double)count / took;
}

static double Appends(double seconds) {
  Unlink("append");
  Pair pair = Open("append", O_WRONLY | O_CREAT | O_APPEND | O_EXCL);
  long count = 0;
  double start = Now();
  for (; Now() < start + seconds && count < kAppendMax / kBlock; count++)
    Append(pair);
  double took = Now() - start;
  Close(pair);
  Unlink("append");
  return (double)count / took;
}

static const char* FileName(int number, const char* suffix) {
  static char name[2][64];
  static int turn;
  turn = !turn;
  snprintf(name[turn], sizeof name[turn], "d%02d/f%04d%s", number % kDirs,
           number, suffix);
  return name[turn];
}

static void MakeDirs(int count) {
  char name[32];
  for (int d = 0; d < count; d++)
    for (int i = 0; i < n_roots; i++) {
      snprintf(name, sizeof name, "d%02d", d);
      Must(mkdir(At(i, name), 0755) != 0 && errno != EEXIST, "mkdir");
    }
}

static double Create(double unused) {
  (void)unused;
  MakeDirs(kDirs);
  double start = Now();
  for (int f = 0; f < kFiles; f++) {
    Pair pair = Open(FileName(f, ""), O_WRONLY | O_CREAT | O_EXCL);
    Append(pair);
    Close(pair);
  }
  return kFiles / (Now() - start);
}

static double Rename(double unused) {
  (void)unused;
  double start = Now();
  for (int f = 0; f < kFiles; f++)
    for (int i = 0; i < n_roots; i++)
      Must(rename(At(i, FileName(f, "")), At(i, FileName(f, ".r"))) != 0,
           "rename");
  return kFiles / (Now() - start);
}

static double Remove(double unused) {
  (void)unused;
  double start = Now();
  for (int f = 0; f < kFiles; f++) Unlink(FileName(f, ".r"));
  return kFiles / (Now() - start);
}

// Empty files, equal in both directories to the nanosecond, kPerDir in each
// folder. The folders' own times are made equal afterwards.
static double Plant(double files) {
  struct timespec when[2] = {{1000000000, 0}, {1000000000, 0}};
  char name[64];
  double start = Now();
  MakeDirs(((int)files + kPerDir - 1) / kPerDir);
  for (int f = 0; f < (int)files; f++) {
    snprintf(name, sizeof name, "d%02d/file%07d", f / kPerDir, f);
    Pair pair = Open(name, O_WRONLY | O_CREAT | O_EXCL);
    for (int i = 0; i < n_roots; i++) futimens(pair.fd[i], when);
    Close(pair);
  }
  for (int d = 0; d * kPerDir < (int)files; d++)
    for (int i = 0; i < n_roots; i++) {
      snprintf(name, sizeof name, "d%02d", d);
      utimensat(AT_FDCWD, At(i, name), when, 0);
    }
  return files / (Now() - start);
}

static const struct {
  const char* name;
  double (*run)(double);
} kLoads[] = {
    {"setup", Setup},         {"seqwrite", SeqWrite}, {"rewrite", Rewrite},
    {"read", WarmRead},       {"commit1", CommitOne}, {"commit4", CommitFour},
    {"random", RandomWrite},  {"append", Appends},    {"create", Create},
    {"rename", Rename},       {"unlink", Remove},     {"plant", Plant},
};

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) {
    fprintf(stderr, "Usage: load NAME AMOUNT DIR [DIR]\n");
    return 2;
  }
  roots = argv + 3;
  n_roots = argc - 3;
  buffer = malloc(kChunk);
  Must(buffer == NULL, "memory");
  memset(buffer, 'x', kChunk);
  for (size_t i = 0; i < sizeof kLoads / sizeof *kLoads; i++)
    if (strcmp(argv[1], kLoads[i].name) == 0) {
      printf("%.1f\n", kLoads[i].run(atof(argv[2])));
      return 0;
    }
  fprintf(stderr, "load: no workload \"%s\"\n", argv[1]);
  return 2;
}
