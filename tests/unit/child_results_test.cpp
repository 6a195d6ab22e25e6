// The worker's side without a worker: its mail, its results, and on which core it runs.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "child/cpu_manners.hpp"
#include "child/mailbox.hpp"
#include "child/parent_bells.hpp"
#include "child/result_memory.hpp"
#include "child/result_writer.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/injection.hpp"
#include "link/notices.hpp"
#include "link/sent_memories.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

const kindred::internal::Deadline at_once{std::chrono::steady_clock::time_point{}};

/// A worker that the test is, and the parent's end of its segment and socket.
struct PlayedChild {
  [[nodiscard]] SegmentHeader& header() const noexcept { return boot.segment.header(); }
  void raise_mail() const { header().mail.fetch_add(1); }
  /// Writes a value as the result of a call that was begun.
  void answer(const std::string& value, std::uint64_t task_id = 7) {
    CallHeader call{};
    call.task_id = task_id;
    call.state = call_state::begun;
    Encoder out{ContextId{}, writer.begin(), &ResultWriter::grow, &writer};
    for (std::size_t at = 0; at < value.size(); at += 1000)
      out.write(value.data() + at, std::min<std::size_t>(1000, value.size() - at));
    (void)writer.write(call, out, ResultKind::value, ticks(), 0);
    CHECK(call.state == call_state::done);
  }
  ResultHeader next_result(std::string& value) {
    const auto message = results.next();
    REQUIRE(message.size() >= sizeof(ResultHeader));
    ResultHeader result;
    std::memcpy(&result, message.data(), sizeof result);
    value.assign(reinterpret_cast<const char*>(message.data()) + sizeof result, result.value_bytes);
    results.release();
    return result;
  }

  std::pair<MessageSocket, MessageSocket> sockets = MessageSocket::pair();
  MessageSocket& parent = sockets.first;
  WorkerBootstrap boot{.socket = std::move(sockets.second), .segment = Segment::create({})};
  RingReader<> results{boot.segment.result_room(), header().results};
  std::atomic<std::uint64_t> freed{0};
  ResultMemory memory{freed};
  SharedBell waiter_bell;
  SharedBell service_bell;
  ParentBells bells{header(), waiter_bell, service_bell};
  CpuManners manners{header()};
  Mailbox mailbox{boot, memory};
  ResultWriter writer{boot.segment.result_room(), header(), 0, mailbox, memory, bells, manners};
};

}  // namespace

TEST_CASE("a memory that was sent before a call is there when the call names it, once") {
  PlayedChild child;
  auto memory = std::make_shared<SharedMemory>(SharedMemory::create("test", 4096));
  memory->bytes()[0] = std::byte{42};
  REQUIRE(send_memories(child.parent, 1, {memory, memory}));
  CHECK_FALSE(child.mailbox.has_mail());
  child.raise_mail();
  CHECK(child.mailbox.has_mail());
  child.mailbox.read();
  CHECK_FALSE(child.mailbox.has_mail());
  const auto second = child.mailbox.memory(2);  // the first belonged to a call that was revoked
  REQUIRE(second);
  CHECK(second->bytes()[0] == std::byte{42});
  CHECK(child.mailbox.kept_bytes() == 0);
  CHECK_FALSE(child.mailbox.lacks_memory());
}

TEST_CASE("a memory that is kept stays for further calls until the parent has it forgotten") {
  PlayedChild child;
  const auto memory = std::make_shared<SharedMemory>(SharedMemory::create("test", 8192));
  const std::uint64_t id = 5 | memory_is_kept;
  REQUIRE(send_notice(child.parent, ParentMessage::attachment, id, memory->size(), memory->fd()));
  child.raise_mail();
  child.mailbox.read();
  CHECK(child.mailbox.memory(id) == child.mailbox.memory(id));
  CHECK(child.mailbox.kept_bytes() == 8192);
  REQUIRE(send_notice(child.parent, ParentMessage::forget, id));
  child.raise_mail();
  child.mailbox.read();
  CHECK(child.mailbox.kept_bytes() == 0);
}

TEST_CASE("what a worker says arrives with its kind, and a long text is cut") {
  PlayedChild child;
  const std::string text(100'000, 'x');
  child.mailbox.send(WorkerMessage::bootstrap_failed, std::as_bytes(std::span{text}));
  const auto message = child.parent.receive(at_once);
  REQUIRE(message);
  std::uint32_t kind = 0;
  std::memcpy(&kind, message->bytes.data(), sizeof kind);
  CHECK(kind == static_cast<std::uint32_t>(WorkerMessage::bootstrap_failed));
  CHECK(message->bytes.size() < MessageSocket::message_limit);
  CHECK(message->bytes.size() > 10'000);
}

TEST_CASE("a worker knows when its socket is another file's") {
  PlayedChild child;
  CHECK(child.mailbox.has_socket());
  auto [other, end] = MessageSocket::pair();
  const int place = child.boot.socket.fd();
  const Descriptor kept = duplicate(place);
  REQUIRE(::dup2(other.fd(), place) == place);
  CHECK_FALSE(child.mailbox.has_socket());
  REQUIRE(::dup2(kept.get(), place) == place);
  CHECK(child.mailbox.has_socket());
}

TEST_CASE("a small result lies in its ring, and one that outgrows its space as well") {
  PlayedChild child;
  std::string value;
  for (const std::size_t size : {std::size_t{0}, std::size_t{5}, std::size_t{3000}, std::size_t{12'000}}) {
    CAPTURE(size);
    child.answer(std::string(size, 'v'), size + 1);
    const ResultHeader result = child.next_result(value);
    CHECK(result.task_id == size + 1);
    CHECK(result.kind == ResultKind::value);
    CHECK(result.flags == 0);
    CHECK(result.ended_ticks >= result.begun_ticks);
    CHECK(value == std::string(size, 'v'));
  }
}

TEST_CASE("a large result lies in a memory that is sent once and named by its place") {
  PlayedChild child;
  std::string value;
  for (const bool first : {true, false}) {
    child.answer(std::string(200'000, 'v'));
    const ResultHeader result = child.next_result(value);
    CHECK(result.flags == result_is_external);
    BlockReference reference;
    REQUIRE(value.size() == sizeof reference);
    std::memcpy(&reference, value.data(), sizeof reference);
    CHECK(reference.bytes == 200'000);
    CHECK((reference.memory_id & memory_is_kept) != 0);
    const auto message = child.parent.receive(at_once);
    REQUIRE(static_cast<bool>(message) == first);
    child.freed = std::uint64_t{1} << (reference.memory_id & ~memory_is_kept);  // the future has let go
  }
}

TEST_CASE("a worker tells on which core it runs, and leaves one that the parent finds crowded") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(static_cast<std::size_t>(current_cpu()), &here);
  REQUIRE(::sched_setaffinity(0, sizeof here, &here) == 0);
  const Segment segment = Segment::create({});
  CpuManners manners{segment.header()};
  manners.tell_cpu();
  const auto cpu = segment.header().cpu.load();
  CHECK(cpu == static_cast<std::uint32_t>(current_cpu()) + 1);
  segment.header().cpu = 0;
  const auto now = ticks() + static_cast<std::uint64_t>(1e9 * ticks_per_nanosecond());
  manners.note_begin(now);
  CHECK(segment.header().cpu == cpu);
  segment.header().cpu = 0;
  manners.note_begin(now + 1);  // it told just now
  CHECK(segment.header().cpu == 0);
  segment.header().crowded_cpu = cpu;
  manners.note_begin(2 * now);
  CHECK(segment.header().crowded_cpu == 0);
  REQUIRE(::sched_setaffinity(0, sizeof before, &before) == 0);
}

TEST_CASE("while other programs want the cores, a worker sleeps on the core of a parent that waits for it") {
  cpu_set_t usable;
  REQUIRE(::sched_getaffinity(0, sizeof usable, &usable) == 0);
  if (CPU_COUNT(&usable) < 2) KINDRED_SKIP("there is one CPU only");
  const Segment segment = Segment::create({});
  const auto second = static_cast<std::uint64_t>(1e9 * ticks_per_nanosecond());
  struct Last {
    bool lost_core, rang, is_long;
  };
  // Where the parent is on another core: does the worker go there? The kernel may move or stop it meanwhile.
  const auto goes = [&](Last last) {
    for (int attempt = 0; attempt < 100; ++attempt) {
      CpuManners manners{segment.header()};
      int there = 0;
      while (there == current_cpu() || !CPU_ISSET(there, &usable)) ++there;
      segment.header().parent_cpu = static_cast<std::uint32_t>(there) + 1;
      const auto now = ticks();
      if (last.lost_core) CHECK_FALSE(manners.note_step(now, now + second));
      manners.note_begin(last.is_long ? now - second : now);
      if (last.rang) manners.note_parent_rung();
      segment.header().cpu = 0;
      manners.note_sleep();
      if (segment.header().cpu == static_cast<std::uint32_t>(there) + 1) return true;
    }
    return false;
  };
  CHECK(goes({.lost_core = true, .rang = true, .is_long = false}));
  CHECK_FALSE(goes({.lost_core = false, .rang = true, .is_long = false}));
  CHECK_FALSE(goes({.lost_core = true, .rang = false, .is_long = false}));
  CHECK_FALSE(goes({.lost_core = true, .rang = true, .is_long = true}));
  cpu_set_t after;
  REQUIRE(::sched_getaffinity(0, sizeof after, &after) == 0);
  CHECK(CPU_EQUAL(&usable, &after));
}

namespace {
/// A yield that lets another thread in, and one that the kernel refuses.
void let_in() noexcept {
  const auto until = ticks() + static_cast<std::uint64_t>(20'000 * ticks_per_nanosecond());
  while (ticks() < until) {}
}
void refuse() noexcept {}
/// Does it hold at least once? A refused yield takes long where something else had the core just then, so it
/// is tried several times; the kernel may move this thread, too.
template <class Condition>
bool once(const Condition& holds) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (holds()) return true;
  }
  return false;
}
}  // namespace

TEST_CASE("a worker that the kernel does not take from its core sleeps where its parent waits there") {
  const Segment segment = Segment::create({});
  SegmentHeader& header = segment.header();
  const auto cpu = [] { return static_cast<std::uint32_t>(current_cpu()) + 1; };
  const auto woken_goes_on = [&](bool parent_is_here, void (*yield)() noexcept) {
    CpuManners manners{header, yield};
    header.parent_cpu = parent_is_here ? cpu() : cpu() + 1;
    manners.note_woken();
    return manners.yield_once_to_waker();
  };
  CHECK(once([&] { return !woken_goes_on(true, refuse); }));
  CHECK(once([&] { return woken_goes_on(true, let_in); }));
  CHECK(once([&] { return woken_goes_on(false, refuse); }));
  CHECK(once([&] {  // it yields once
    CpuManners manners{header, refuse};
    header.parent_cpu = cpu();
    manners.note_woken();
    return !manners.yield_once_to_waker() && manners.yield_once_to_waker();
  }));
  CHECK(once([&] {  // it has rung a parent that slept, which may be on its way to another core
    CpuManners manners{header, refuse};
    header.parent_cpu = cpu();
    manners.note_woken();
    manners.note_parent_rung();
    return manners.yield_once_to_waker();
  }));
  CHECK(once([&] {  // the thread that woke it has gone to another core since, and said so
    CpuManners manners{header, refuse};
    header.parent_cpu = cpu();
    manners.note_woken();
    header.parent_cpu = cpu() + 1;
    return manners.yield_once_to_waker();
  }));
  const auto spinning_goes_on = [&](bool parent_is_here, bool rang, void (*yield)() noexcept) {
    CpuManners manners{header, yield};
    header.parent_cpu = parent_is_here ? cpu() : cpu() + 1;
    if (rang) manners.note_parent_rung();
    const bool once_goes_on = manners.yield_once_to_waker();
    CHECK(once_goes_on);  // whether the parent that was rung is here is not known
    return manners.yield_while_spinning();
  };
  CHECK(once([&] { return !spinning_goes_on(true, false, refuse); }));
  CHECK(once([&] { return spinning_goes_on(true, true, refuse); }));
  CHECK(once([&] { return spinning_goes_on(true, false, let_in); }));
  CHECK(once([&] { return spinning_goes_on(false, false, refuse); }));
}

TEST_CASE(
    "a worker waits for a parent that it has rung, and that no yield lets in, where that was of use before") {
  const Segment segment = Segment::create({});
  SegmentHeader& header = segment.header();
  const auto waits = [&](CpuManners& manners) {
    header.parent_cpu = static_cast<std::uint32_t>(current_cpu()) + 1;
    manners.note_parent_rung();
    return manners.yield_while_spinning();
  };
  CHECK(once([&] {
    CpuManners manners{header, refuse};
    if (!waits(manners)) return false;
    manners.note_sleep();  // no call has come
    if (waits(manners)) return false;
    manners.note_sleep();
    if (!waits(manners)) return false;
    manners.note_begin(ticks());  // a call has come
    if (!waits(manners)) return false;
    manners.note_sleep();
    if (waits(manners)) return false;
    manners.note_sleep();
    return waits(manners);
  }));
}

TEST_CASE("a worker rings once for each arming: for the thread that waits, else for the supervisor") {
  const PlayedChild child;
  ParentBells bells{child.header(), child.waiter_bell, child.service_bell};
  const auto arm = [&](std::uint64_t bits, std::uint64_t epoch) {
    child.header().armed = bits | (epoch << Armed::epoch_shift);
  };
  CHECK_FALSE(bells.ring_if_armed(0));  // nothing was ever armed
  arm(Armed::waiter | Armed::service, 1);
  CHECK(bells.ring_if_armed(0));
  CHECK(child.waiter_bell.clear());
  CHECK_FALSE(child.service_bell.clear());
  CHECK_FALSE(bells.ring_if_armed(0));
  CHECK_FALSE(child.waiter_bell.clear());
  arm(Armed::service, 2);
  CHECK_FALSE(bells.ring_if_armed(0));
  CHECK(child.service_bell.clear());
  (void)bells.ring_if_armed(0);
  CHECK_FALSE(child.service_bell.clear());
  arm(0, 3);
  CHECK_FALSE(bells.ring_if_armed(0));
  CHECK_FALSE(child.service_bell.clear());
  CHECK_FALSE(child.waiter_bell.clear());
}

TEST_CASE("a result is there before the bell rings for it") {
#if defined(KINDRED_INJECTION)
  PlayedChild child;
  child.header().armed = Armed::waiter | (std::uint64_t{1} << Armed::epoch_shift);
  const auto noted = std::make_unique<InjectionControl>();
  InjectionControl* const before = std::exchange(injection_control, noted.get());
  child.answer("value");
  injection_control = before;
  std::string order;
  for (std::uint32_t i = 0; i < noted->points; ++i) order += std::string{noted->reached[i].name} + ' ';
  CHECK(order ==
        "worker.result.before_done worker.result.before_publish worker.result.published "
        "worker.bell.before_waiter worker.result.rung ");
  CHECK(child.waiter_bell.clear());
#else
  KINDRED_SKIP("this build has no injection points");
#endif
}

TEST_CASE("a worker that runs dry rings when as few bytes of calls are left as the parent has said") {
  const PlayedChild child;
  ParentBells bells{child.header(), child.waiter_bell, child.service_bell};
  child.header().armed =
      Armed::dry | (std::uint64_t{200} << Armed::low_water_shift) | (std::uint64_t{1} << Armed::epoch_shift);
  child.header().calls.published = 1000;
  (void)bells.ring_if_armed(500);
  (void)bells.ring_if_armed(799);
  CHECK_FALSE(child.service_bell.clear());
  (void)bells.ring_if_armed(800);
  CHECK(child.service_bell.clear());
  (void)bells.ring_if_armed(1000);
  CHECK_FALSE(child.service_bell.clear());
}
