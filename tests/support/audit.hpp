#pragma once

#include <chrono>
#include <map>
#include <string>

namespace kindred::test {

/// Counts what a process owns when it is made and again at its end: processes below the test (orphans
/// included), open descriptors, threads, mappings of memfds; and the entries of /dev/shm, but for those that
/// another program has mapped. Fails the running case with a listing where there is more than before.
///
/// What ends asynchronously by nature (a joined thread is still in /proc for a moment) is given up to two
/// seconds.
class ResourceAudit {
 public:
  ResourceAudit();
  ResourceAudit(const ResourceAudit&) = delete;
  ResourceAudit& operator=(const ResourceAudit&) = delete;
  ~ResourceAudit() { finish(); }

  /// Compares now instead of at the end. Once.
  void finish();
  /// Returns the listing instead of failing: empty as soon as nothing is more than before; after `grace` what
  /// still is.
  [[nodiscard]] std::string difference(std::chrono::milliseconds grace = std::chrono::seconds{2}) const;

  /// Each kind of thing owned, by kind and a name that is stable for as long as it lives; with how many of
  /// that name.
  using Inventory = std::map<std::string, std::map<std::string, int>>;

 private:
  Inventory before_;
  bool finished_ = false;
};

}  // namespace kindred::test
