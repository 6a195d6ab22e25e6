// What a worker says on its socket: each message once, in its turn, and nothing else.
#include "link/worker_mail.hpp"

#include "kindred/internal/bootstrap.hpp"
#include "link/notices.hpp"
#include "support/test.hpp"
#include "unit/pool_rooms.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

struct MailedPool : PlayedPool {
  PlayedWorker& worker = add_worker();
  int taken = 0;
  WorkerMail mail{ContextId{}, clock, log, [this](Locked, WorkerSlot&) { ++taken; }};

  bool take() {
    PoolGuard guard{mutex};
    return mail.take(guard, worker.slot());
  }
  void say(WorkerMessage kind, const std::string& rest = {}) const { worker.say(kind, rest); }
  [[nodiscard]] const std::string& refusal() const { return worker.slot().last_words.protocol_error; }
};

}  // namespace

TEST_CASE("a worker says once that it is ready, and is killed if it says so again") {
  MailedPool pool;
  pool.worker.slot().ready = false;
  pool.say(WorkerMessage::ready);
  CHECK(pool.take());
  CHECK(pool.worker.slot().ready);
  pool.say(WorkerMessage::ready);
  CHECK_FALSE(pool.take());
  CHECK(pool.worker.slot().kill_reason == KillReason::protocol);
  CHECK(pool.refusal().find("said twice that it is ready") != std::string::npos);
}

TEST_CASE("a failed start is noted before the worker is ready, and refused after it") {
  MailedPool pool;
  pool.worker.slot().ready = false;
  pool.say(WorkerMessage::bootstrap_failed, "no such library");
  pool.say(WorkerMessage::initializer_failed, "bytes");
  CHECK(pool.take());
  CHECK(pool.worker.slot().last_words.bootstrap_error == "no such library");
  CHECK(pool.worker.slot().last_words.initializer_failed);
  CHECK(pool.worker.slot().last_words.failure_bytes.size() == 5);
  for (const auto kind : {WorkerMessage::bootstrap_failed, WorkerMessage::initializer_failed}) {
    MailedPool other;
    other.say(kind, "late");
    CHECK_FALSE(other.take());
    CHECK(other.worker.slot().kill_reason == KillReason::protocol);
  }
}

TEST_CASE("a message that is too short, of an unknown kind, or malformed kills its worker") {
  MailedPool shorter;
  const std::byte one{1};
  REQUIRE(shorter.worker.socket().send({&one, 1}) == MessageSocket::Sent::yes);
  CHECK_FALSE(shorter.take());
  CHECK(shorter.refusal().find("malformed") != std::string::npos);
  MailedPool unknown;
  unknown.say(static_cast<WorkerMessage>(99));
  CHECK_FALSE(unknown.take());
  CHECK(unknown.refusal().find("unknown kind 99") != std::string::npos);
  MailedPool notice;
  notice.say(WorkerMessage::attachment, "short");
  CHECK_FALSE(notice.take());
  CHECK(notice.refusal().find("notice of shared memory is malformed") != std::string::npos);
}

TEST_CASE("a shared memory comes with its descriptor, and is found by its number") {
  MailedPool pool;
  SharedMemory memory = SharedMemory::create("test", 4096);
  AttachmentNotice notice{.message = static_cast<std::uint32_t>(WorkerMessage::attachment),
                          .spare = 0,
                          .memory_id = 7,
                          .bytes = memory.size()};
  const int fd = memory.fd();
  REQUIRE(pool.worker.socket().send(std::as_bytes(std::span{&notice, 1}), {&fd, 1}) ==
          MessageSocket::Sent::yes);
  CHECK(pool.take());
  REQUIRE(pool.worker.slot().memory.received.count(7) == 1);
  CHECK(pool.worker.slot().memory.received[7]->size() == 4096);
  // Without its descriptor it is missing: the error of the task that needs it.
  notice.memory_id = 8;
  REQUIRE(pool.worker.socket().send(std::as_bytes(std::span{&notice, 1})) == MessageSocket::Sent::yes);
  CHECK(pool.take());
  CHECK(pool.worker.slot().memory.missing.has_value());
  CHECK(pool.worker.slot().kill_reason == KillReason::none);
}

TEST_CASE("a block for results has one of few numbers") {
  MailedPool pool;
  const AttachmentNotice notice{.message = static_cast<std::uint32_t>(WorkerMessage::attachment),
                                .spare = 0,
                                .memory_id = memory_is_kept | max_result_blocks,
                                .bytes = 4096};
  REQUIRE(pool.worker.socket().send(std::as_bytes(std::span{&notice, 1})) == MessageSocket::Sent::yes);
  CHECK_FALSE(pool.take());
}

TEST_CASE("the log tells of processes that tasks forked, but not of all") {
  MailedPool pool;
  for (std::uint32_t pid = 100; pid < 112; ++pid) {
    const ForkedChild notice{.message = static_cast<std::uint32_t>(WorkerMessage::forked_child), .pid = pid};
    REQUIRE(pool.worker.socket().send(std::as_bytes(std::span{&notice, 1})) == MessageSocket::Sent::yes);
  }
  CHECK(pool.take());
  CHECK(pool.records.size() == 8);
  CHECK(pool.records[0].message.find("pid 100") != std::string::npos);
  CHECK(pool.records[7].message.find("Further ones") != std::string::npos);
}

TEST_CASE("a worker that closes its socket is mute since then, and not since the last look") {
  MailedPool pool;
  pool.worker.slot().watched = true;
  const_cast<MessageSocket&>(pool.worker.socket()).close();
  CHECK_FALSE(pool.take());
  const auto since = pool.worker.slot().untidy.mute_since;
  REQUIRE(since.has_value());
  CHECK_FALSE(pool.take());
  CHECK(pool.worker.slot().untidy.mute_since == since);
}
