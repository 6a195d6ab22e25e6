// What a log keeps of its latest records: a fixed amount of memory, read whole and by task.
#include "collect/history.hpp"

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "support/test.hpp"

using kindred::internal::History;
using kindred::internal::KeptRecord;

namespace {

/// Writes a record without a site, with `payload` bytes behind its head.
std::uint64_t keep(History& history, std::uint64_t task, std::uint64_t sequence, std::size_t payload) {
  KeptRecord record{};
  record.bytes = static_cast<std::uint32_t>((sizeof record + payload + 7) / 8 * 8);
  record.task_id = task;
  record.sequence = sequence;
  std::byte* const room = history.reserve(record.bytes);
  std::memset(room, 0xab, record.bytes);
  std::memcpy(room, &record, sizeof record);
  return history.commit(record.bytes);
}

struct Read {
  std::uint64_t task;
  std::uint64_t sequence;
  bool operator==(const Read&) const = default;
};

std::vector<Read> read(const std::vector<std::byte>& bytes) {
  std::vector<Read> found;
  for (std::size_t at = 0; at < bytes.size();) {
    KeptRecord record;
    std::memcpy(&record, bytes.data() + at, sizeof record);
    found.push_back({record.task_id, record.sequence});
    at += record.bytes;
  }
  return found;
}

std::vector<Read> all_of(const History& history) {
  auto place = history.oldest();
  std::vector<std::byte> bytes;
  (void)history.copy(place, bytes, SIZE_MAX);
  return read(bytes);
}

std::vector<Read> of_task(const History& history, std::uint64_t task) {
  std::vector<std::byte> bytes;
  history.copy_task(task, bytes);
  return read(bytes);
}

}  // namespace

TEST_CASE(
    "the records of a task are those of all that are its own, in their order, however often memory was used anew") {
  std::mt19937 random{20'261'128};
  for (const std::size_t bytes : {4'096UL, 16'384UL, 100'000UL}) {
    History history{bytes};
    const std::uint64_t tasks = 1 + random() % 40;
    std::uint64_t sequence = 0;
    for (int round = 0; round < 60; ++round) {
      for (auto left = random() % 60; left != 0; --left)
        keep(history, random() % (tasks + 1), sequence++, random() % 300);
      history.publish();
      const auto all = all_of(history);
      for (std::uint64_t task = 1; task <= tasks; ++task) {
        std::vector<Read> expected;
        for (const Read& one : all)
          if (one.task == task) expected.push_back(one);
        CHECK((of_task(history, task) == expected));
      }
    }
    CHECK(sequence > all_of(history).size());  // some were forgotten
  }
}

TEST_CASE("a record of a task is shown when it is published, and the ones before it at once") {
  History history{4'096};
  keep(history, 7, 1, 0);
  history.publish();
  keep(history, 7, 2, 0);
  CHECK((of_task(history, 7) == std::vector<Read>{{7, 1}}));
  history.publish();
  CHECK((of_task(history, 7) == std::vector<Read>{{7, 1}, {7, 2}}));
}
