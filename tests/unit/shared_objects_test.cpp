#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>

#include "shared/shared_object.hpp"
#include "unit/shared_object_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace kindred::test::shared;

namespace {

// All kinds at once, for what they have in common.
struct AllKinds {
  explicit AllKinds(Pool& pool)
      : mutex{pool.registry.make_mutex()},
        semaphore{pool.registry.make_semaphore(2)},
        event{pool.registry.make_event()},
        barrier{pool.registry.make_barrier(2)},
        counter{pool.registry.make_counter(7)},
        channel{pool.registry.make_channel<int>(4)},
        array{pool.registry.make_array<int>(10)} {}
  AllKinds(kindred::internal::ContextId context, const Message& message)
      : AllKinds{Reader{context, message}} {}
  explicit AllKinds(Reader&& reader)
      : mutex{reader.next<Mutex>()},
        semaphore{reader.next<Semaphore>()},
        event{reader.next<Event>()},
        barrier{reader.next<Barrier>()},
        counter{reader.next<Counter>()},
        channel{reader.next<Channel<int>>()},
        array{reader.next<SharedArray<int>>()} {}
  [[nodiscard]] Message packed(kindred::internal::ContextId context) const {
    return pack(context, mutex, semaphore, event, barrier, counter, channel, array);
  }

  Mutex mutex;
  Semaphore semaphore;
  Event event;
  Barrier barrier;
  Counter counter;
  Channel<int> channel;
  SharedArray<int> array;
};

template <class Error, class Action>
std::string text_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "(nothing was thrown)";
}

// Each synchronising kind's first use, by name.
const std::map<std::string, std::function<void(const AllKinds&)>> uses{
    {"Mutex", [](const AllKinds& all) { static_cast<void>(all.mutex.try_lock()); }},
    {"Semaphore", [](const AllKinds& all) { static_cast<void>(all.semaphore.try_acquire()); }},
    {"Event", [](const AllKinds& all) { all.event.set(); }},
    {"Barrier", [](const AllKinds& all) { static_cast<void>(all.barrier.arrive()); }},
    {"Counter", [](const AllKinds& all) { static_cast<void>(all.counter.load()); }},
    {"Channel", [](const AllKinds& all) { static_cast<void>(all.channel.try_receive()); }}};

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator{"/proc/self/fd"},
                       std::filesystem::directory_iterator{});
}

// The object behind a handle, for what only its insides show.
template <class Handle>
std::shared_ptr<kindred::internal::SharedObject> insides(const Pool& pool, const Handle& handle) {
  const Message message = pack(pool.id, handle);
  std::uint64_t id = 0;
  std::memcpy(&id, message.bytes.data() + 8, sizeof id);
  return kindred::internal::find_in_registry(pool.id, id);
}

}  // namespace

TEST_CASE("every shared object works in the workers it is passed to, and comes back") {
  Pool pool;
  const AllKinds all{pool};
  Common<std::array<std::byte, 1024>> back;
  Common<std::size_t> back_size;
  Worker worker{pool, [&, message = all.packed(pool.id)] {
                  const auto before = open_descriptors();
                  const AllKinds mine{pool.id, message};
                  const AllKinds again{pool.id, message};
                  if (open_descriptors() > before + 1)
                    ::_exit(5);  // the array's may be sent on, the objects' may not
                  if (!(mine.mutex == again.mutex) || !(mine.channel == again.channel))
                    ::_exit(3);  // the same objects
                  const std::scoped_lock guard{mine.mutex};
                  mine.semaphore.acquire();
                  mine.semaphore.release();
                  ++mine.counter;
                  mine.channel.send(42);
                  mine.event.set();
                  mine.barrier.arrive_and_wait();
                  const Message returned = pack(pool.id, mine.mutex, mine.counter);
                  if (!returned.memories.empty()) ::_exit(4);
                  std::memcpy(back->data(), returned.bytes.data(), returned.bytes.size());
                  *back_size = returned.bytes.size();
                }};
  all.event.wait();
  all.barrier.arrive_and_wait();
  CHECK(all.channel.receive() == 42);
  CHECK(all.counter.load() == 8);
  CHECK(worker.end() == 0);
  Message returned;
  returned.bytes.assign(back->begin(), back->begin() + static_cast<std::ptrdiff_t>(*back_size));
  Reader reader{pool.id, returned};
  CHECK(reader.next<Mutex>() == all.mutex);
  CHECK(reader.next<Counter>() == all.counter);
}

TEST_CASE("a handle is refused in the parent before anything is sent to another executor's worker") {
  Pool mine{StartMethod::fork};
  Pool theirs{StartMethod::spawn};
  const AllKinds all{mine};
  const auto check = [&](const std::string& kind, const auto& handle) {
    const auto text = text_of<UsageError>([&] { static_cast<void>(pack(theirs.id, handle)); });
    CAPTURE(text);
    CHECK_CONTAINS(text, kind);
    CHECK_CONTAINS(text, to_string(mine.id));
    CHECK_CONTAINS(text, to_string(theirs.id));
    CHECK_NOTHROW(static_cast<void>(pack(mine.id, handle)));
  };
  check("Mutex", all.mutex);
  check("Semaphore", all.semaphore);
  check("Event", all.event);
  check("Barrier", all.barrier);
  check("Counter", all.counter);
  check("Channel", all.channel);
  check("SharedArray", all.array);
}

TEST_CASE("a handle that a fork inherited is refused there, and names both contexts") {
  Pool pool;
  const AllKinds all{pool};
  for (const auto& [kind, use] : uses) {
    const auto outcome = run_forked([&] { use(all); });
    CAPTURE(to_string(outcome));
    CHECK(outcome.code == 99);
    CHECK_CONTAINS(outcome.err, "this " + kind + " belongs to " + to_string(pool.id));
    CHECK_CONTAINS(outcome.err, "works for no context");
  }
}

TEST_CASE("a worker that serves another executor cannot use an inherited handle") {
  Pool pool;
  Pool other;
  const AllKinds all{pool};
  for (const auto& [kind, use] : uses) {
    Worker worker{other, [&] {
                    const auto text = text_of<UsageError>([&] { use(all); });
                    const bool both =
                        contains(text, to_string(pool.id)) && contains(text, to_string(other.id));
                    ::_exit(both ? 0 : 3);
                  }};
    CHECK(worker.end() == 0);
  }
}

TEST_CASE("a handle that outlived its pool is refused") {
  std::unique_ptr<AllKinds> all;
  kindred::internal::ContextId id;
  {
    Pool pool;
    all = std::make_unique<AllKinds>(pool);
    all->array.mutable_span()[3] = 5;
    id = pool.id;
  }
  for (const auto& [kind, use] : uses) {
    const auto text = text_of<UsageError>([&] { use(*all); });
    CHECK_CONTAINS(text, "this " + kind + " belongs to " + to_string(id));
    CHECK_CONTAINS(text, "has been destroyed");
  }
  CHECK(all->array[3] == 5);  // data is data
  CHECK_THROWS_CONTAINS(static_cast<void>(pack(id, all->array)), UsageError, "has been destroyed");
}

TEST_CASE("the end of a pool ends every wait in the parent") {
  auto pool = std::make_unique<Pool>();
  const AllKinds all{*pool};
  all.mutex.lock();
  all.semaphore.acquire();
  all.semaphore.acquire();
  for (int i = 0; i < 4; ++i) all.channel.send(i);
  const auto empty = pool->registry.make_channel<int>(1);
  std::atomic<int> begun{0};
  std::atomic<int> refused{0};
  std::vector<std::thread> waiters;
  const auto wait = [&](const auto& action) {
    waiters.emplace_back([&begun, &refused, action] {
      ++begun;
      const auto text = text_of<UsageError>(action);
      if (contains(text, "pool has ended") || contains(text, "has been destroyed"))
        ++refused;
      else
        std::fprintf(stderr, "%s\n", text.c_str());
    });
  };
  wait([&] { all.mutex.lock(); });
  wait([&] { all.semaphore.acquire(); });
  wait([&] { all.event.wait(); });
  wait([&] { all.barrier.arrive_and_wait(); });
  wait([&] { all.channel.send(5); });
  wait([&] { static_cast<void>(empty.receive()); });
  until([&] { return begun == 6; });
  SUBCASE("by its destructor") { pool.reset(); }
  SUBCASE("because it broke") { pool->registry.close(); }
  SUBCASE("at once") {
    pool->life->open = false;
    pool.reset();
  }
  for (auto& waiter : waiters) waiter.join();
  CHECK(refused == 6);
  all.mutex.unlock();  // a guard's end is always allowed
}

TEST_CASE("an object lives as long as a handle or a message refers to it, and no longer") {
  ResourceAudit audit;
  Pool pool;
  Common<std::atomic<int>> stage;
  {
    auto kept = pool.registry.make_mutex();
    CHECK(pool.registry.size() == 1);
    Worker worker{pool, [&, message = pack(pool.id, kept)] {
                    {
                      const auto mine = unpack<Mutex>(pool.id, message);
                      *stage = 1;
                      until([&] { return *stage == 2; });
                    }
                    *stage = 3;
                    ::pause();
                  }};
    until([&] { return *stage == 1; });
    kept = {};
    CHECK(pool.registry.size() == 1);  // the worker has it
    pool.registry.sweep();
    CHECK(pool.registry.size() == 1);
    *stage = 2;
    until([&] { return *stage == 3; });
    pool.registry.sweep();
    CHECK(pool.registry.size() == 0);
  }
  {
    auto kept = pool.registry.make_semaphore(1);
    Worker worker{pool, [&, message = pack(pool.id, kept)] {
                    const auto mine = unpack<Semaphore>(pool.id, message);
                    *stage = 4;
                    ::pause();
                  }};
    until([&] { return *stage == 4; });
    kept = {};
    CHECK(pool.registry.size() == 1);
    worker.kill();  // a dead one has nothing
    CHECK(pool.registry.size() == 0);
  }
  {
    auto sent = pool.registry.make_event();
    auto message = std::make_unique<Message>(pack(pool.id, sent));
    sent = {};
    CHECK(pool.registry.size() == 1);  // a message is on its way
    message.reset();
    pool.registry.sweep();
    CHECK(pool.registry.size() == 0);
  }
  for (int i = 0; i < 1000; ++i) static_cast<void>(pool.registry.make_counter());
  CHECK(pool.registry.size() == 0);
}

TEST_CASE("a handle that a worker returns is found although nobody else has the object any more") {
  Pool pool;
  auto counter = pool.registry.make_counter(5);
  Common<std::array<std::byte, 256>> back;
  Common<std::size_t> back_size;
  Worker worker{pool, [&, message = pack(pool.id, counter)] {
                  auto mine = unpack<Counter>(pool.id, message);
                  ++mine;
                  const Message returned = pack(pool.id, mine);
                  std::memcpy(back->data(), returned.bytes.data(), returned.bytes.size());
                  *back_size = returned.bytes.size();
                }};
  CHECK(worker.end() == 0);
  counter = {};
  pool.registry.sweep();
  Message returned;
  returned.bytes.assign(back->begin(), back->begin() + static_cast<std::ptrdiff_t>(*back_size));
  {
    const auto found = unpack<Counter>(pool.id, returned);
    CHECK(found.load() == 6);
    CHECK(pool.registry.size() == 1);
  }
  CHECK(pool.registry.size() == 0);
}

TEST_CASE("a message that names no object of the context is refused") {
  Pool pool;
  Pool other;
  const AllKinds all{pool};
  Message message = pack(pool.id, all.mutex);
  CHECK_THROWS_CONTAINS(static_cast<void>(unpack<Event>(pool.id, message)), kindred::internal::DecodeError,
                        "Event");
  CHECK_THROWS_CONTAINS(static_cast<void>(unpack<Mutex>(other.id, message)), kindred::internal::DecodeError,
                        to_string(other.id));
  message.bytes[8] = std::byte{77};  // the id
  CHECK_THROWS_CONTAINS(static_cast<void>(unpack<Mutex>(pool.id, message)), kindred::internal::DecodeError,
                        "object 77");
  message.bytes.resize(12);
  CHECK_THROWS_CONTAINS(static_cast<void>(unpack<Mutex>(pool.id, message)), kindred::internal::DecodeError,
                        "ends early");
}

TEST_CASE("a worker refuses memory that does not hold the object announced") {
  Pool pool;
  const AllKinds all{pool};
  const Message mutex = pack(pool.id, all.mutex);
  Message wrong = pack(pool.id, all.semaphore);
  wrong.bytes = mutex.bytes;
  Worker reader{pool, [&] {
                  const auto text =
                      text_of<UsageError>([&] { static_cast<void>(unpack<Mutex>(pool.id, wrong)); });
                  ::_exit(contains(text, "another object") ? 0 : 3);
                }};
  CHECK(reader.end() == 0);
  Message cut = pack(pool.id, all.mutex);
  cut.memories[0] =
      std::make_shared<kindred::internal::SharedMemory>(kindred::internal::SharedMemory::create("test", 100));
  Worker second{pool, [&] {
                  const auto text =
                      text_of<UsageError>([&] { static_cast<void>(unpack<Mutex>(pool.id, cut)); });
                  ::_exit(contains(text, "does not begin like one") ? 0 : 3);
                }};
  CHECK(second.end() == 0);
}

TEST_CASE(
    "more processes than an object has room for are refused with the number, and there can be room for more") {
  Pool pool;
  const auto small = pool.registry.make_mutex();
  pool.registry.make_room_for(500);
  const auto large = pool.registry.make_mutex();
  CHECK(insides(pool, small)->shared_memory()->size() == 4096);
  const Message message = pack(pool.id, small, large);
  Common<std::atomic<int>> have;
  const auto holder = [&] {
    Reader reader{pool.id, message};
    const auto mine = reader.next<Mutex>();
    ++*have;
    ::pause();
  };
  std::vector<Worker> workers;
  for (int i = 0; i < 111; ++i) workers.emplace_back(pool, holder);
  until([&] { return *have == 111; });
  Worker one_more{pool, [&] {
                    Reader reader{pool.id, message};
                    const auto text = text_of<UsageError>([&] { static_cast<void>(reader.next<Mutex>()); });
                    if (!contains(text, "held by 112 processes")) ::_exit(3);
                  }};
  CHECK(one_more.end() == 0);
  workers.pop_back();  // whose account is free again
  workers.emplace_back(pool, holder);
  until([&] { return *have == 112; });
  std::vector<Worker> more;
  for (int i = 0; i < 120; ++i) {
    more.emplace_back(pool, [&, only = pack(pool.id, large)] {
      const auto mine = unpack<Mutex>(pool.id, only);
      ++*have;
      ::pause();
    });
  }
  until([&] { return *have == 232; });
}

TEST_CASE("numbers out of range are refused, each with its range") {
  Pool pool;
  auto& registry = pool.registry;
  CHECK_THROWS_CONTAINS(registry.make_semaphore(-1), UsageError, "permits of a Semaphore is -1");
  CHECK_THROWS_CONTAINS(registry.make_barrier(0), UsageError, "participants of a Barrier is 0");
  CHECK_THROWS_CONTAINS(registry.make_channel<int>(0), UsageError, "capacity of a Channel is 0");
  CHECK_THROWS_CONTAINS(registry.make_array<int>(~std::size_t{0}), UsageError,
                        "larger than any address space");
  CHECK_THROWS_CONTAINS(registry.make_array<char>(std::size_t{1} << 50U), SystemError, "shared memory");
}

TEST_CASE("the parent is not hurt by a worker that writes anything anywhere into an object") {
  if (long_run()) const Deadline deadline{300s};
  // Each round: nonsense over a part of the memory, then every operation with a deadline. It may refuse,
  // never crash and never hang.
  std::mt19937_64 random{99};
  const int rounds = long_run() ? 2'000 : 60;
  for (int round = 0; round < rounds; ++round) {
    Pool pool;
    const auto mutex = pool.registry.make_mutex();
    const auto semaphore = pool.registry.make_semaphore(2);
    const auto event = pool.registry.make_event();
    const auto barrier = pool.registry.make_barrier(2);
    const auto channel = pool.registry.make_channel<std::string>(4);
    channel.send("one");
    const Message message = pack(pool.id, mutex, semaphore, event, barrier, channel);
    for (const auto& memory : message.memories) {
      auto bytes = memory->bytes();
      for (int blow = 0; blow < 6; ++blow) {
        // The shared words and the first accounts and elements are what matters; often small numbers, which
        // pass for true.
        const std::size_t at =
            random() % std::min<std::size_t>(bytes.size() / 8, random() % 4 == 0 ? 4096 : 80);
        std::uint64_t nonsense = random();
        if (random() % 2 == 0) nonsense &= 0x0000'0003'0000'0003;
        std::memcpy(bytes.data() + at * 8, &nonsense, 8);
      }
      // A state's lock that is taken by nobody alive is a wait for ever without a deadline: those are not
      // tried.
    }
    const auto attempt = [](const auto& action) {
      try {
        action();
      } catch (const Error&) {
      } catch (const kindred::internal::DecodeError&) {}
    };
    attempt([&] {
      if (mutex.try_lock_for(1ms)) mutex.unlock();
    });
    attempt([&] { static_cast<void>(semaphore.try_acquire_for(1ms)); });
    attempt([&] { static_cast<void>(event.wait_for(1ms)); });
    attempt([&] { event.set(); });
    attempt([&] { static_cast<void>(barrier.arrive_and_wait_for(1ms)); });
    attempt([&] { static_cast<void>(channel.receive_for(1ms)); });
    attempt([&] { static_cast<void>(channel.send_for("two", 1ms)); });
    for (std::uint32_t owner = 2; owner < 6; ++owner) pool.registry.owner_died(owner, 0, 1);
  }
}

TEST_CASE(
    "the parent does not wait for an object's lock to settle a death: who has the lock does that when it is done") {
  Pool pool;
  const auto semaphore = pool.registry.make_semaphore(1);
  Common<std::atomic<int>> have;
  Worker worker{pool, [&, message = pack(pool.id, semaphore)] {
                  const auto mine = unpack<Semaphore>(pool.id, message);
                  mine.acquire();
                  *have = 1;
                  ::pause();
                }};
  until([&] { return *have == 1; });
  Sleeper sleeper{[&] { semaphore.acquire(); }};
  {
    const auto object = insides(pool, semaphore);
    const kindred::internal::Critical held{*object};
    worker.kill();  // returns, although the lock is taken
  }
  sleeper.join();
  CHECK(semaphore.abandoned());
}

TEST_CASE(
    "who waits for an object's lock gets it although the one that was woken before it died, and when the pool ends") {
  Pool pool;
  const auto semaphore = pool.registry.make_semaphore(1);
  const Message message = pack(pool.id, semaphore);
  const auto object = insides(pool, semaphore);
  Common<std::atomic<int>> stage;
  Worker worker{pool, [&] {
                  const auto mine = unpack<Semaphore>(pool.id, message);
                  *stage = 1;
                  until([&] { return *stage == 2; });
                  static_cast<void>(mine.available());
                  ::pause();
                }};
  until([&] { return *stage == 1; });
  std::atomic<bool> got{false};
  std::unique_ptr<Sleeper> sleeper;
  {
    const kindred::internal::Critical held{*object};
    *stage = 2;
    until_asleep(worker.pid());
    ::kill(worker.pid(), SIGSTOP);
    sleeper = std::make_unique<Sleeper>([&] {
      semaphore.acquire();
      got = true;
    });
  }
  worker.kill();
  sleeper->join();
  CHECK(got);
  std::string text;
  {
    const kindred::internal::Critical held{*object};
    Sleeper waits{[&] { text = text_of<UsageError>([&] { semaphore.acquire(); }); }};
    pool.registry.close();
    waits.join();
  }
  CHECK_CONTAINS(text, "pool has ended");
}

TEST_CASE(
    "what a sleeper saw before a death is void after it, so that it does not fall asleep on a wake-up that will not come") {
  Pool pool;
  const auto channel = pool.registry.make_channel<int>(1);
  const auto object = insides(pool, channel);
  const auto before = std::array{object->memory().words[0].load(), object->memory().words[1].load()};
  Worker worker{pool, [&] {}};
  worker.end();
  CHECK(object->memory().words[0] != before[0]);
  CHECK(object->memory().words[1] != before[1]);
}

TEST_CASE("nobody stays registered as a sleeper who sleeps no more") {
  Pool pool;
  const auto semaphore = pool.registry.make_semaphore(0);
  const auto channel = pool.registry.make_channel<int>(1);
  Sleeper acquires{[&] { semaphore.acquire(); }};
  std::thread times_out{[&] { CHECK_FALSE(semaphore.try_acquire_for(300ms)); }};
  Sleeper receives{[&] { CHECK(channel.receive() == 1); }};
  channel.send(1);
  receives.join();
  channel.send(2);
  Sleeper sends{[&] { channel.send(3); }};
  CHECK(channel.receive() == 2);
  sends.join();
  times_out.join();
  semaphore.release();
  acquires.join();
  Worker waits{pool,
               [&, message = pack(pool.id, semaphore)] { unpack<Semaphore>(pool.id, message).acquire(); }};
  until_asleep(waits.pid());
  waits.kill();
  const auto sleepers = [&](const auto& handle) {
    const auto object = insides(pool, handle);
    kindred::internal::Critical critical{*object};
    return critical.state().waiting[0] + critical.state().waiting[1];
  };
  CHECK(sleepers(semaphore) == 0);
  CHECK(sleepers(channel) == 0);
}

TEST_CASE("an element whose size was written over is refused") {
  Pool pool;
  for (const std::uint64_t size :
       {std::uint64_t{100}, std::uint64_t{1} << 20U, ~std::uint64_t{0}, ~std::uint64_t{0} - 8}) {
    const auto fresh = pool.registry.make_channel<std::string>(2);
    fresh.send("element");
    std::memcpy(insides(pool, fresh)->arena().data(), &size, sizeof size);
    CHECK_THROWS_CONTAINS(fresh.receive(), UsageError, "is corrupt");
  }
}
