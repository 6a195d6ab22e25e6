#include <fstream>
#include <random>

#include "cluster/world.hpp"
#include "engine/signed_engine.hpp"
#include "support/test.hpp"
#include "wire/signature.hpp"

// Signed messages: what has another signature, or none, is dropped before it is decoded.
using namespace kindred;
using namespace kindred::test;

namespace {

const std::string secret(32, 's');

/// One machine's signed connection, over the bus of a world.
struct SignedPort {
  SignedPort(FakeBus& bus, const std::string& machine, Signer signer, Engine::Receive receive)
      : engine{std::move(signer), "test", std::move(receive),
               [this](const std::string& what) { refused.push_back(what); },
               [&](Engine::Receive pass) {
                 auto made = std::make_unique<FakeBus::Port>(bus, machine);
                 made->receive = std::move(pass);
                 return made;
               }} {}
  std::vector<std::string> refused;
  SignedEngine engine;
};

/// A head and a node, each with its own key.
struct SignedWorld {
  SignedWorld(const std::string& head_secret, const std::string& node_secret)
      : head_port{bus, "head", Signer{head_secret, "test"},
                  [this](const EngineEvent& event) { head->on_event(bus.now, event); }},
        node_port{bus, "n1", Signer{node_secret, "test"},
                  [this](const EngineEvent& event) { node->on_event(bus.now, event); }} {
    HeadSettings settings;
    settings.node_timeout = seconds{5};
    head = std::make_unique<Head>(as_here(settings), head_port.engine);
    pool.now = &bus.now;
    NodeSettings node_settings;
    node_settings.name = "n1";
    node_settings.build = build_a;
    node_settings.program = "program";
    node_settings.instance = 1;
    node_settings.random = [this] { return ++lives; };
    node = std::make_unique<Node>(node_settings, node_port.engine, pool);
  }
  std::uint64_t submit(std::string_view text) {
    TaskSpec spec;
    spec.arguments = bytes_of(text);
    return head->submit(bus.now, std::move(spec));
  }
  void run_for(Time time) {
    for (const Time until = bus.now + time; bus.now < until; bus.now += milliseconds{1}) {
      bus.deliver();
      pool.advance();
      for (auto& [life, result] : std::exchange(pool.ended, {}))
        node->on_ended(bus.now, life, std::move(result));
      node->tick(bus.now);
      head->tick(bus.now);
      for (Ended& ended : head->take_ended()) ends.emplace(ended.task, std::move(ended));
    }
  }

  FakeBus bus;
  SimulatedPool pool;
  std::uint64_t lives = 100;
  std::unique_ptr<Head> head;
  std::unique_ptr<Node> node;
  SignedPort head_port, node_port;
  std::map<std::uint64_t, Ended> ends;
};

/// What a server that was taken over may put in front of head and node.
std::vector<Message> forged_messages(std::uint64_t life) {
  Grant grant;
  grant.job = 7;
  grant.task = 900;
  Manifest manifest;
  manifest.name = "test";
  Result result;
  result.job = 7;
  result.task = 1;
  result.run = 1;
  result.bytes = bytes_of("forged");
  return {Message{grant},
          Message{manifest},
          Message{result},
          Message{Permits{
              .job = 7, .life = life, .serial = 1, .permits = {{.task = 1, .verdict = Verdict::revoke}}}},
          Message{Reset{.job = 7, .life = life}},
          Message{Bye{.life = life}},
          Message{HeadBeat{.job = 7, .serial = 1, .closed = true}},
          Message{Status{.life = 5, .node = "evil", .workers = 9}}};
}

}  // namespace

TEST_CASE("a signature holds for its message, secret and cluster alone") {
  const Signer signer{secret, "render"};
  const Bytes message = bytes_of("a message");
  Bytes signed_message = signer.sign(message);
  CHECK(signed_message.size() == message.size() + Signer::bytes);
  CHECK(signer.is_signed(signed_message));
  CHECK_FALSE(Signer{std::string(32, 't'), "render"}.is_signed(signed_message));
  CHECK_FALSE(Signer{secret, "sound"}.is_signed(signed_message));
  for (std::size_t i = 0; i < signed_message.size(); ++i) {
    Bytes changed = signed_message;
    changed[i] ^= std::byte{1};
    CHECK_FALSE(signer.is_signed(changed));
    changed = signed_message;
    changed.resize(i);
    CHECK_FALSE(signer.is_signed(changed));
  }
  Signer::strip(signed_message);
  CHECK(signed_message == message);
}

TEST_CASE("with one key head and node work as without, large values and all") {
  SignedWorld world{secret, secret};
  const std::string large(3'000'000, 'x');
  const auto small_task = world.submit("a");
  const auto large_task = world.submit(large);
  world.run_for(seconds{5});
  REQUIRE(world.ends.size() == 2);
  CHECK(text_of(world.ends.at(small_task).result.bytes) == "a");
  CHECK(text_of(world.ends.at(large_task).result.bytes) == large);
  CHECK(world.head_port.refused.empty());
  CHECK(world.node_port.refused.empty());
}

TEST_CASE("forged and damaged messages do nothing, wherever they are put, and are told") {
  SignedWorld world{secret, secret};
  world.pool.run_time = seconds{3};
  const auto task = world.submit("a");
  world.run_for(seconds{1});
  REQUIRE(world.pool.begun.size() == 1);
  const std::uint64_t life = world.pool.opened.at(0);
  FakeBus::Port thief{world.bus, "thief"};
  const Signer other{std::string(32, 't'), "test"};
  const Epoch epoch = world.head->counts().epoch;
  const std::string job = "0000000000000007";
  std::mt19937 random{7};
  for (const Message& message : forged_messages(life)) {
    const Bytes plain = encode(build_token(build_a), epoch, message);
    Bytes damaged = Signer{secret, "test"}.sign(plain);
    damaged[random() % damaged.size()] ^= std::byte{4};
    for (const Bytes& bytes : {plain, other.sign(plain), damaged, Bytes{}, Bytes(31)}) {
      for (const Address& to : {Address{Address::Kind::heads}, Address{Address::Kind::nodes},
                                Address{Address::Kind::job, job}, Address{Address::Kind::node, "n1"}})
        thief.tell(to, bytes);
      thief.put(0, {{StreamKind::tasks, epoch}, build_a.substr(0, 16) + ".m." + job}, {}, bytes, {});
      thief.put(0, {{StreamKind::results, epoch}, job + ".1"}, {}, bytes, {});
      thief.put(0, {{StreamKind::log, epoch}, job + ".1"}, {}, bytes, {});
      thief.put(0, {{StreamKind::jobs, 0}, job}, {}, bytes, {});
    }
  }
  world.run_for(seconds{6});
  REQUIRE(world.ends.contains(task));
  CHECK(text_of(world.ends.at(task).result.bytes) == "a");
  CHECK(world.pool.begun == std::vector<std::uint64_t>{task});
  CHECK(world.pool.closed.empty());
  CHECK(world.pool.opened.size() == 1);
  CHECK(world.head->counts().nodes_lost == 0);
  CHECK(world.head->nodes(world.bus.now).size() == 1);
  REQUIRE_FALSE(world.head_port.refused.empty());
  CHECK_CONTAINS(world.head_port.refused[0], "is not signed with the key of this cluster");
  CHECK(world.head_port.engine.connection().refused_messages > 40);
  CHECK(world.node_port.engine.connection().refused_messages > 40);
}

TEST_CASE("a node with another key gets nothing, and the head's error says why") {
  SignedWorld world{secret, std::string(32, 't')};
  const auto task = world.submit("a");
  world.run_for(seconds{7});
  REQUIRE(world.ends.contains(task));
  CHECK(world.ends.at(task).how == Ended::How::refused);
  CHECK_CONTAINS(world.ends.at(task).text, "are not signed with its sign_key");
  CHECK(world.pool.opened.empty());
  CHECK(world.pool.begun.empty());
  REQUIRE_FALSE(world.node_port.refused.empty());
}

TEST_CASE("a file with a secret is read without its line end, and a short or missing one is refused") {
  TemporaryFolder folder;
  std::ofstream{folder / "key"} << secret << "\n";
  CHECK(read_secret(folder / "key") == secret);
  std::ofstream{folder / "short"} << "hunter2\n";
  CHECK_THROWS_CONTAINS((void)read_secret(folder / "short"), UsageError, "openssl rand -hex 32");
  CHECK_THROWS_CONTAINS((void)read_secret(folder / "none"), UsageError, "cannot be read");
}
