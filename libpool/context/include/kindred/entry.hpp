#pragma once

namespace kindred {

/// The worker gate. Make it first in `main`, with main's own arguments:
///
///     int main(int argc, char** argv) {
///       kindred::Entry entry{argc, argv};
///
/// Under `spawn` and `forkserver` the program is executed anew, and the new process reaches this line: here
/// it becomes a worker or the fork server, works, and exits. In every other process the constructor returns
/// at once. An executor cannot be made without an `Entry&`, so a program that forgets the gate does not
/// compile, and cannot fork without end.
///
/// Errors: `UsageError` where `argv` is not main's (null, or no program name). A process that was started as
/// a worker, but whose command line or descriptors are forged, is refused with a message on stderr and exit
/// code 70, and never runs a task. Threads: before any other thread is started. Fork: any process.
class Entry {
 public:
  Entry(int argc, char** argv);
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;
  ~Entry() = default;
};

}  // namespace kindred
