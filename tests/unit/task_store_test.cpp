#include "task_store.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

using kindred::internal::TaskStore;

namespace {

void use(void* room, int value) { std::memset(room, value, TaskStore::room_bytes); }

}  // namespace

TEST_CASE("rooms do not overlap, are aligned, and are used again") {
  TaskStore store;
  std::vector<unsigned char*> rooms;
  for (int i = 0; i < 30'000; ++i) {
    rooms.push_back(static_cast<unsigned char*>(store.take()));
    REQUIRE(reinterpret_cast<std::uintptr_t>(rooms.back()) % TaskStore::room_alignment == 0);
    use(rooms.back(), i % 251);
  }
  for (int i = 0; i < 30'000; ++i) {
    const unsigned char* const room = rooms[static_cast<std::size_t>(i)];
    REQUIRE(
        std::all_of(room, room + TaskStore::room_bytes, [i](unsigned char byte) { return byte == i % 251; }));
  }
  const std::set<void*> before{rooms.begin(), rooms.end()};
  CHECK(before.size() == rooms.size());
  CHECK(store.in_use() == 30'000);
  for (auto* const room : rooms) CHECK(store.give_back(room));
  CHECK(store.in_use() == 0);
#if !defined(__SANITIZE_ADDRESS__)  // there each is an allocation of its own
  for (auto*& room : rooms) {
    room = static_cast<unsigned char*>(store.take());
    REQUIRE(before.contains(room));
  }
  for (auto* const room : rooms) CHECK(store.give_back(room));
#endif
}

TEST_CASE("what many tasks took is large, and is given back where nobody has a room") {
  TaskStore store;
  std::vector<void*> rooms;
  for (int i = 0; i < 60'000; ++i) rooms.push_back(store.take());
#if !defined(__SANITIZE_ADDRESS__)
  CHECK(store.is_large());
#endif
  for (void* const room : rooms) CHECK(store.give_back(room));
  REQUIRE(store.in_use() == 0);
  store.clear();
  CHECK(store.in_use() == 0);
  CHECK_FALSE(store.is_large());
  void* const another = store.take();
  use(another, 1);
  CHECK_FALSE(store.is_large());
  CHECK(store.give_back(another));
}

TEST_CASE("rooms are given back by any thread, while others are taken") {
  TaskStore store;
  constexpr int rounds = 200;
  std::vector<std::thread> threads;
  for (int round = 0; round < rounds; ++round) {
    std::vector<void*> some;
    for (int i = 0; i < 50; ++i) {
      some.push_back(store.take());
      use(some.back(), round);
    }
    threads.emplace_back([&store, some] {
      for (void* const room : some) CHECK(store.give_back(room));
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<void*> all;
  for (int i = 0; i < 50 * rounds; ++i) all.insert(store.take());
  CHECK(all.size() == 50U * rounds);
  for (void* const room : all) CHECK(store.give_back(room));
}

TEST_CASE("who closes a store counts the rooms that are out, each once, whenever they come back") {
  for (int round = 0; round < 300; ++round) {
    TaskStore store;
    constexpr int each = 40;
    std::vector<std::thread> threads;
    std::atomic<std::size_t> too_late{0};
    std::atomic<bool> go{false};
    for (int i = 0; i < 2; ++i) {
      std::vector<void*> rooms;
      for (int room = 0; room < each; ++room) rooms.push_back(store.take());
      threads.emplace_back([&, rooms] {
        while (!go.load()) std::this_thread::yield();
        for (void* const room : rooms) {
          if (!store.give_back(room)) too_late.fetch_add(1);
        }
      });
    }
    void* const kept = store.take();
    go.store(true);
    for (int wait = 0; wait < round; ++wait) std::atomic_signal_fence(std::memory_order_seq_cst);
    const std::size_t out = store.close();
    void* const later = store.take();  // nobody counts it
    for (auto& thread : threads) thread.join();
    CHECK(out == too_late.load() + 1);
    CHECK_FALSE(store.give_back(kept));
    CHECK_FALSE(store.give_back(later));
  }
}
