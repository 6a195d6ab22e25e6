#pragma once

namespace kindred::internal {

/// Why the parent killed a worker.
enum class KillReason : unsigned char {
  none,                ///< it did not
  task,                ///< for its task: a time limit, or `cancel(Running::kill)`
  protocol,            ///< it corrupted its shared memory or its socket
  silence,             ///< it began nothing of what it was given, while tasks waited
  mute,                ///< it closed its socket and went on
  stopped,             ///< it is stopped by a signal
  shutdown,            ///< the pool ends, or shrinks
  initializer_timeout  ///< its initializer ran over its limit
};

}  // namespace kindred::internal
