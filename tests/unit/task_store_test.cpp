#include "task/task_store.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "unit/held_lock.hpp"

using kindred::internal::TaskStore;
using kindred::test::HeldLock;

namespace {

void use(void* cell, int value) { std::memset(cell, value, TaskStore::cell_bytes); }

}  // namespace

TEST_CASE("cells do not overlap, are aligned, and are used again") {
  const HeldLock locked;
  TaskStore store;
  std::vector<unsigned char*> cells;
  for (int i = 0; i < 30'000; ++i) {
    cells.push_back(static_cast<unsigned char*>(store.take(locked)));
    REQUIRE(reinterpret_cast<std::uintptr_t>(cells.back()) % TaskStore::cell_alignment == 0);
    use(cells.back(), i % 251);
  }
  for (int i = 0; i < 30'000; ++i) {
    const unsigned char* const cell = cells[static_cast<std::size_t>(i)];
    REQUIRE(
        std::all_of(cell, cell + TaskStore::cell_bytes, [i](unsigned char byte) { return byte == i % 251; }));
  }
  const std::set<void*> before{cells.begin(), cells.end()};
  CHECK(before.size() == cells.size());
  CHECK(store.in_use() == 30'000);
  for (auto* const cell : cells) CHECK(store.give_back(cell));
  CHECK(store.in_use() == 0);
#if !defined(__SANITIZE_ADDRESS__)  // there each is an allocation of its own
  for (auto*& cell : cells) {
    cell = static_cast<unsigned char*>(store.take(locked));
    REQUIRE(before.contains(cell));
  }
  for (auto* const cell : cells) CHECK(store.give_back(cell));
#endif
}

TEST_CASE("what many tasks took is large, and is given back where nobody has a cell") {
  const HeldLock locked;
  TaskStore store;
  std::vector<void*> cells;
  for (int i = 0; i < 60'000; ++i) cells.push_back(store.take(locked));
#if !defined(__SANITIZE_ADDRESS__)
  CHECK(store.is_large());
#endif
  for (void* const cell : cells) CHECK(store.give_back(cell));
  REQUIRE(store.in_use() == 0);
  store.clear(locked);
  CHECK(store.in_use() == 0);
  CHECK_FALSE(store.is_large());
  void* const another = store.take(locked);
  use(another, 1);
  CHECK_FALSE(store.is_large());
  CHECK(store.give_back(another));
}

TEST_CASE("cells are given back by any thread, while others are taken") {
  const HeldLock locked;
  TaskStore store;
  constexpr int rounds = 200;
  std::vector<std::thread> threads;
  for (int round = 0; round < rounds; ++round) {
    std::vector<void*> some;
    for (int i = 0; i < 50; ++i) {
      some.push_back(store.take(locked));
      use(some.back(), round);
    }
    threads.emplace_back([&store, some] {
      for (void* const cell : some) CHECK(store.give_back(cell));
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<void*> all;
  for (int i = 0; i < 50 * rounds; ++i) all.insert(store.take(locked));
  CHECK(all.size() == 50U * rounds);
  for (void* const cell : all) CHECK(store.give_back(cell));
}

TEST_CASE("who closes a store counts the cells that are out, each once, whenever they come back") {
  for (int round = 0; round < 300; ++round) {
    const HeldLock locked;
    TaskStore store;
    constexpr int each = 40;
    std::vector<std::thread> threads;
    std::atomic<std::size_t> too_late{0};
    std::atomic<bool> go{false};
    for (int i = 0; i < 2; ++i) {
      std::vector<void*> cells;
      for (int cell = 0; cell < each; ++cell) cells.push_back(store.take(locked));
      threads.emplace_back([&, cells] {
        while (!go.load()) std::this_thread::yield();
        for (void* const cell : cells) {
          if (!store.give_back(cell)) too_late.fetch_add(1);
        }
      });
    }
    void* const kept = store.take(locked);
    go.store(true);
    for (int wait = 0; wait < round; ++wait) std::atomic_signal_fence(std::memory_order_seq_cst);
    const std::size_t out = store.close(locked);
    void* const later = store.take(locked);  // nobody counts it
    for (auto& thread : threads) thread.join();
    CHECK(out == too_late.load() + 1);
    CHECK_FALSE(store.give_back(kept));
    CHECK_FALSE(store.give_back(later));
  }
}
