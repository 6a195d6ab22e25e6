#include "engine/nats/nats_engine.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <nats/nats.h>

#include "engine/nats/names.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/byte_stream.hpp"

namespace kindred::internal::cluster {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t stream_is_there = 10058;  ///< the server's error number: it exists with other limits
constexpr auto longest_farewell = std::chrono::seconds{2};
constexpr auto feed_silence = std::chrono::seconds{3};  ///< three heartbeats of a followed stream
constexpr auto feed_pause =
    std::chrono::milliseconds{500};  ///< until a consumer that could not be made is tried again

template <class T, void (*destroy)(T*)>
struct Destroy {
  void operator()(T* object) const noexcept { destroy(object); }
};
using Options = std::unique_ptr<natsOptions, Destroy<natsOptions, natsOptions_Destroy>>;
using Connection = std::unique_ptr<natsConnection, Destroy<natsConnection, natsConnection_Destroy>>;
using Message = std::unique_ptr<natsMsg, Destroy<natsMsg, natsMsg_Destroy>>;
using Subscription = std::unique_ptr<natsSubscription, Destroy<natsSubscription, natsSubscription_Destroy>>;

std::string last_words(natsStatus status) {
  natsStatus detailed = status;
  const char* const text = nats_GetLastError(&detailed);
  std::string words = natsStatus_GetText(status);
  if (text != nullptr && *text != '\0' && detailed == status) words += std::string{": "} + text;
  return words;
}

/// The file has the seed (SU...) in one line, and the public key (U...) in another: cnats asks for both.
std::string public_nkey(const std::string& path) {
  std::ifstream in{path};
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('U')) return line;
  }
  throw UsageError{"the file of ClusterOptions::nkey, " + path +
                   ", has no line with the public key (U...). Add it: nk -inkey " + path + " -pubout >> " +
                   path};
}

void require(natsStatus status, const char* call, const char* doing) {
  if (status == NATS_OK) return;
  throw SystemError{call, status == NATS_NO_MEMORY ? ENOMEM : EINVAL,
                    std::string{doing} + " (" + last_words(status) + ")",
                    "Check ClusterOptions::servers, credentials and tls."};
}

/// What the library's threads may touch. They hold it themselves, because they may run a last callback after
/// the engine is gone.
class NatsEngine;
struct Shared : std::enable_shared_from_this<Shared> {
  std::mutex receiving;  ///< held over `receive`
  Engine::Receive receive;
  NatsEngine* engine = nullptr;  ///< null: it is gone
  std::mutex mutex;
  std::string words;
  std::uint64_t outages = 0;
  std::size_t subscribed = 0;  ///< subscriptions whose threads may still call back
  std::condition_variable unsubscribed;

  void end_subscription() {
    {
      const std::scoped_lock lock{mutex};
      --subscribed;
    }
    unsubscribed.notify_all();
  }
};

// Callbacks take what they touch from here: the library does not tell when it has run the last callback of a
// connection. What they touch stays, also while the program's static objects are destroyed: the library's
// threads run on then.
std::shared_ptr<Shared>* keep_for_ever(const std::shared_ptr<Shared>& shared) {
  static std::mutex mutex;
  static auto& all = *new std::deque<std::shared_ptr<Shared>>;
  const std::scoped_lock lock{mutex};
  return &all.emplace_back(shared);
}

std::string number(std::uint64_t value) { return std::to_string(value); }
std::string in_quotes(std::string_view text) { return "\"" + std::string{text} + "\""; }

std::string_view status_of(natsMsg* message) {
  const char* value = nullptr;
  if (natsMsgHeader_Get(message, "Status", &value) != NATS_OK || value == nullptr) return {};
  return value;
}
std::string_view data_of(natsMsg* message) {
  return {natsMsg_GetData(message), static_cast<std::size_t>(natsMsg_GetDataLength(message))};
}
Bytes bytes_of(natsMsg* message) {
  const auto* const data = reinterpret_cast<const std::byte*>(natsMsg_GetData(message));
  return Bytes(data, data + natsMsg_GetDataLength(message));
}
std::string_view or_empty(const char* text) { return text == nullptr ? std::string_view{} : text; }

/// Reads the answer of a JetStream server: it has one form for all verbs.
Answer read_answer(Ticket ticket, natsMsg* message) {
  Answer answer;
  answer.ticket = ticket;
  const std::string_view json = data_of(message);
  if (status_of(message) == "503") {
    answer.how = Answer::How::missing;
    answer.text = "no stream listens there, or JetStream is not enabled (nats-server -js)";
  } else if (const auto error = json.find("\"error\":"); error != std::string_view::npos) {
    const std::string_view rest = json.substr(error);
    answer.text = json_text(rest, "description");
    switch (json_number(rest, "err_code")) {
      case 10059:                                             // stream not found
      case 10037: answer.how = Answer::How::missing; break;   // no message found
      case 10071: answer.how = Answer::How::conflict; break;  // wrong last sequence
      case stream_is_there: break;                            // it is there, with other limits
      case 10013: break;                                      // likewise a consumer
      default: answer.how = Answer::How::refused;
    }
  }
  return answer;
}

/// The pull of one queue. Only one is out at a time.
struct Pull {
  Subscription subscription;
  std::string inbox;
  Ticket ticket = 0;
  std::size_t left = 0;
};

/// A followed stream: a consumer of ours, made anew where it misses something or falls silent.
struct Feed {
  Place place;
  Subscription subscription;
  std::string inbox;
  std::uint64_t next = 1;      ///< sequence in the stream
  std::uint64_t expected = 1;  ///< number of the consumer's next delivery
  std::uint64_t life = 0;
  Clock::time_point heard = {};
  bool broken = true;
};

class NatsEngine final : public Engine {
 public:
  NatsEngine(const EngineOptions& options, std::string cluster, const std::string& who, Receive receive)
      : names_{std::move(cluster)}, shared_{std::make_shared<Shared>()} {
    shared_->receive = std::move(receive);
    make_options(options, who);
  }
  ~NatsEngine() override {
    {
      const std::scoped_lock lock{shared_->receiving};
      shared_->receive = nullptr;
      shared_->engine = nullptr;
    }
    // Without the lock: the library waits for no callback, and each callback takes the lock first.
    feeds_.clear();
    pulls_.clear();
    subscriptions_.clear();
    if (connection_) natsConnection_Close(connection_.get());
    // Each subscription has a thread of the library, which ends by itself. A program may end right after
    // this, and what such a thread touches would be destroyed under it.
    std::unique_lock lock{shared_->mutex};
    shared_->unsubscribed.wait_for(lock, longest_farewell, [this] { return shared_->subscribed == 0; });
  }

  /// The status of one attempt.
  natsStatus connect() {
    natsConnection* made = nullptr;
    const natsStatus status = natsConnection_Connect(&made, options_.get());
    if (status != NATS_OK) return status;
    connection_.reset(made);
    inbox_ = new_inbox();
    {
      const std::scoped_lock lock{shared_->receiving};
      shared_->engine = this;
    }
    subscriptions_.push_back(subscribe(inbox_ + ".>", &on_answer));
    return status;
  }

  void ensure(Ticket ticket, const Stream& stream, const StreamLimits& limits) override {
    const std::string name = names_.stream(stream);
    const bool keys = holds_keys(stream.kind);
    std::string config = "{\"name\":" + in_quotes(name) + ",\"subjects\":[" +
                         in_quotes(names_.below({stream, {}})) + "],\"retention\":" +
                         (stream.kind == StreamKind::tasks ? in_quotes("workqueue") : in_quotes("limits")) +
                         ",\"storage\":" + in_quotes(limits.in_memory ? "memory" : "file") +
                         ",\"num_replicas\":" + number(limits.replicas) +
                         ",\"max_consumers\":-1,\"max_msgs\":-1";
    config += ",\"max_bytes\":" + (limits.max_bytes == 0 ? "-1" : number(limits.max_bytes));
    config += ",\"max_age\":" + number(static_cast<std::uint64_t>(limits.max_age.count()));
    config += ",\"discard\":" + in_quotes(stream.kind == StreamKind::log ? "old" : "new");
    config += ",\"max_msgs_per_subject\":" + std::string{keys ? "1" : "-1"};
    const Time window = limits.max_age > Time{0} ? std::min(limits.duplicates_window, limits.max_age)
                                                 : limits.duplicates_window;
    config += ",\"duplicate_window\":" + number(static_cast<std::uint64_t>(window.count()));
    if (keys) config += ",\"allow_rollup_hdrs\":true,\"deny_delete\":true";
    ask(limits.insist ? 'u' : 'e', ticket, "STREAM.CREATE." + name, config + "}");
    if (!limits.insist) return;
    const std::scoped_lock lock{mutex_};
    updates_[ticket] = {name, config + "}"};
  }
  void ensure(Ticket ticket, const Queue& queue, Time lease) override {
    const std::string name = names_.stream({StreamKind::tasks, queue.epoch});
    const std::string consumer = NatsNames::consumer(queue);
    ask('e', ticket, "CONSUMER.DURABLE.CREATE." + name + "." + consumer,
        "{\"stream_name\":" + in_quotes(name) + ",\"config\":{\"durable_name\":" + in_quotes(consumer) +
            ",\"deliver_policy\":\"all\",\"ack_policy\":\"explicit\",\"ack_wait\":" +
            number(static_cast<std::uint64_t>(lease.count())) +
            ",\"max_deliver\":-1,\"max_ack_pending\":20000," +
            "\"replay_policy\":\"instant\",\"filter_subject\":" + in_quotes(names_.filter(queue)) + "}}");
  }
  void state(Ticket ticket, const Stream& stream) override {
    ask('e', ticket, "STREAM.INFO." + names_.stream(stream), {});
  }
  void remove(Ticket ticket, const Stream& stream) override {
    ask('d', ticket, "STREAM.DELETE." + names_.stream(stream), {});
  }
  void put(Ticket ticket, const Place& place, const std::string& id, std::span<const std::byte> bytes,
           Expect expect) override {
    natsMsg* made = nullptr;
    const std::string reply_to = reply('p', ticket);
    if (natsMsg_Create(&made, names_.subject(place).c_str(), reply_to.empty() ? nullptr : reply_to.c_str(),
                       reinterpret_cast<const char*>(bytes.data()),
                       static_cast<int>(bytes.size())) != NATS_OK)
      return;
    const Message message{made};
    if (!id.empty()) (void)natsMsgHeader_Set(made, "Nats-Msg-Id", id.c_str());
    if (expect.what != Expect::What::anything)
      (void)natsMsgHeader_Set(made, "Nats-Expected-Last-Subject-Sequence",
                              expect.what == Expect::What::absent ? "0" : number(expect.revision).c_str());
    (void)natsConnection_PublishMsg(connection_.get(), made);
  }
  void find(Ticket ticket, const Place& place) override {
    ask('f', ticket, "STREAM.MSG.GET." + names_.stream(place.stream),
        "{\"last_by_subj\":" + in_quotes(names_.subject(place)) + "}");
  }
  void find(Ticket ticket, const Stream& stream, std::uint64_t sequence) override {
    ask('f', ticket, "STREAM.MSG.GET." + names_.stream(stream), "{\"seq\":" + number(sequence) + "}");
  }
  void erase(Ticket ticket, const Stream& stream, std::uint64_t sequence) override {
    ask('d', ticket, "STREAM.MSG.DELETE." + names_.stream(stream),
        "{\"seq\":" + number(sequence) + ",\"no_erase\":true}");
  }
  void erase_at(Ticket ticket, const Place& place, std::uint64_t up_to) override {
    std::string request = "{\"filter\":" + in_quotes(names_.subject(place));
    if (up_to != 0) request += ",\"seq\":" + number(up_to + 1);
    ask('d', ticket, "STREAM.PURGE." + names_.stream(place.stream), request + "}");
  }
  void purge(Ticket ticket, const Place& place, std::uint64_t up_to) override {
    std::string request =
        "{\"filter\":" + in_quotes(place.path.find('.') == std::string::npos && holds_keys(place.stream.kind)
                                       ? names_.subject(place)
                                       : names_.below(place));
    if (up_to != 0) request += ",\"seq\":" + number(up_to + 1);
    ask('d', ticket, "STREAM.PURGE." + names_.stream(place.stream), request + "}");
  }

  void take(Ticket ticket, const Queue& queue, std::size_t room, Time wait) override {
    Pull* pull = nullptr;
    std::string inbox;
    {
      const std::scoped_lock lock{mutex_};
      auto& kept = pulls_[queue];
      if (!kept) {
        kept = std::make_unique<Pull>();
        kept->inbox = new_inbox();
        kept->subscription = subscribe(kept->inbox + ".>", &on_delivery,
                                       std::make_unique<PullPlace>(PullPlace{shared_, kept.get()}));
      }
      pull = kept.get();
      pull->ticket = ticket;
      pull->left = room;
      inbox = pull->inbox + "." + number(ticket);
    }
    std::string request = "{\"batch\":" + number(room);
    if (wait <= Time{0})
      request += ",\"no_wait\":true";
    else
      request += ",\"expires\":" + number(static_cast<std::uint64_t>(wait.count()));
    publish("$JS.API.CONSUMER.MSG.NEXT." + names_.stream({StreamKind::tasks, queue.epoch}) + "." +
                NatsNames::consumer(queue),
            inbox, request + "}");
  }
  void extend(const std::string& handle) override { publish(handle, {}, "+WPI"); }
  void settle(Ticket ticket, const std::string& handle, Settle how) override {
    publish(handle, ticket == 0 ? std::string{} : reply('k', ticket),
            how == Settle::done   ? "+ACK"
            : how == Settle::back ? "-NAK"
                                  : "-NAK {\"delay\":1000000000}");
  }

  void follow(Ticket ticket, const Place& below, std::uint64_t from) override {
    const std::scoped_lock lock{mutex_};
    auto feed = std::make_unique<Feed>();
    feed->place = below;
    feed->next = std::max<std::uint64_t>(1, from);
    start(ticket, *feed);
    feeds_[ticket] = std::move(feed);
  }
  void unfollow(Ticket ticket) override {
    std::unique_ptr<Feed> gone;
    const std::scoped_lock lock{mutex_};
    if (const auto found = feeds_.find(ticket); found != feeds_.end()) {
      gone = std::move(found->second);
      feeds_.erase(found);
    }
  }
  void tick() override {
    const auto now = Clock::now();
    const bool connected = natsConnection_Status(connection_.get()) == NATS_CONN_STATUS_CONNECTED;
    const std::scoped_lock lock{mutex_};
    const bool again = std::exchange(reconnected_, false);
    for (const auto& [ticket, feed] : feeds_) {
      if (!connected || (!again && !feed->broken && now - feed->heard < feed_silence)) continue;
      if (feed->broken && now - feed->heard < feed_pause && !again) continue;
      start(ticket, *feed);
    }
  }

  void listen(const Address& address) override {
    if (!listened_.insert(address).second) return;
    subscriptions_.push_back(subscribe(names_.subject(address), &on_told));
  }
  void tell(const Address& to, std::span<const std::byte> packet) override {
    (void)natsConnection_Publish(connection_.get(), names_.subject(to).c_str(), packet.data(),
                                 static_cast<int>(packet.size()));
  }

  [[nodiscard]] std::size_t max_message() const override {
    const std::int64_t most = natsConnection_GetMaxPayload(connection_.get());
    return most > 0 ? static_cast<std::size_t>(most) : std::size_t{1} << 20U;
  }
  [[nodiscard]] EngineState connection() const override {
    const bool connected = natsConnection_Status(connection_.get()) == NATS_CONN_STATUS_CONNECTED;
    const std::scoped_lock lock{shared_->mutex};
    return {.connected = connected, .outages = shared_->outages, .last_words = shared_->words};
  }

 private:
  struct PullPlace {
    std::shared_ptr<Shared> shared;
    Pull* pull;
  };
  struct FeedPlace {
    std::shared_ptr<Shared> shared;
    Ticket ticket;
    std::uint64_t life;
  };

  static Shared& shared_of(const std::shared_ptr<Shared>& place) { return *place; }
  static Shared& shared_of(const auto& place) { return *place.shared; }
  template <class P>
  static void on_complete(void* closure) {
    std::unique_ptr<P> place{static_cast<P*>(closure)};
    const std::shared_ptr<Shared> shared = shared_of(*place).shared_from_this();
    place.reset();
    shared->end_subscription();
  }

  void make_options(const EngineOptions& given, const std::string& who);

  [[nodiscard]] std::string new_inbox() {
    natsInbox* made = nullptr;
    require(natsInbox_Create(&made), "natsInbox_Create", "preparing the connection");
    std::string inbox = made;
    natsInbox_Destroy(made);
    return inbox;
  }
  /// `place` is the callback's; the library tells when it has run the last one.
  template <class P>
  Subscription subscribe(const std::string& subject, natsMsgHandler handler, std::unique_ptr<P> place) {
    natsSubscription* made = nullptr;
    require(natsConnection_Subscribe(&made, connection_.get(), subject.c_str(), handler, place.get()),
            "natsConnection_Subscribe", "listening to the cluster");
    Subscription subscription{made};
    {
      const std::scoped_lock lock{shared_->mutex};
      ++shared_->subscribed;
    }
    if (natsSubscription_SetOnCompleteCB(made, &on_complete<P>, place.get()) == NATS_OK)
      (void)place.release();
    else
      shared_->end_subscription();
    // What does not fit is dropped, and asked for again.
    (void)natsSubscription_SetPendingLimits(made, 262'144, 512 << 20);
    return subscription;
  }
  Subscription subscribe(const std::string& subject, natsMsgHandler handler) {
    return subscribe(subject, handler, std::make_unique<std::shared_ptr<Shared>>(shared_));
  }
  [[nodiscard]] std::string reply(char kind, Ticket ticket) const {
    return ticket == 0 ? std::string{} : inbox_ + "." + kind + number(ticket);
  }
  void publish(const std::string& subject, const std::string& reply_to, std::string_view body) {
    if (reply_to.empty())
      (void)natsConnection_Publish(connection_.get(), subject.c_str(), body.data(),
                                   static_cast<int>(body.size()));
    else
      (void)natsConnection_PublishRequest(connection_.get(), subject.c_str(), reply_to.c_str(), body.data(),
                                          static_cast<int>(body.size()));
  }
  void ask(char kind, Ticket ticket, const std::string& verb, std::string_view body) {
    publish("$JS.API." + verb, reply(kind, ticket), body);
  }

  /// Under the lock.
  void start(Ticket ticket, Feed& feed) {
    feed.subscription.reset();
    feed.inbox = new_inbox();
    feed.expected = 1;
    feed.broken = false;
    feed.heard = Clock::now();
    // Without a wildcard: the server pushes only to a subject with a subscription of exactly that name.
    feed.subscription = subscribe(feed.inbox, &on_entry,
                                  std::make_unique<FeedPlace>(FeedPlace{shared_, ticket, ++feed.life}));
    const std::string name = names_.stream(feed.place.stream);
    publish(
        "$JS.API.CONSUMER.CREATE." + name, feed.inbox,
        "{\"stream_name\":" + in_quotes(name) + ",\"config\":{\"deliver_subject\":" + in_quotes(feed.inbox) +
            ",\"deliver_policy\":\"by_start_sequence\",\"opt_start_seq\":" + number(feed.next) +
            ",\"ack_policy\":\"none\",\"max_deliver\":1,\"replay_policy\":\"instant\",\"filter_subject\":" +
            in_quotes(names_.below(feed.place)) +
            ",\"flow_control\":true,\"idle_heartbeat\":1000000000,\"num_replicas\":1,\"mem_storage\":true}}");
  }

  static void on_answer(natsConnection*, natsSubscription*, natsMsg* raw, void* closure);
  /// The answer to a stream's creation that insists on its limits. True: it is there with others, and gets
  /// them.
  bool update(Ticket ticket, std::string_view json) {
    std::pair<std::string, std::string> wanted;
    {
      const std::scoped_lock lock{mutex_};
      const auto found = updates_.find(ticket);
      if (found == updates_.end()) return false;
      wanted = std::move(found->second);
      updates_.erase(found);
    }
    if (json_number(json, "err_code") != stream_is_there) return false;
    ask('e', ticket, "STREAM.UPDATE." + wanted.first, wanted.second);
    return true;
  }
  static void on_delivery(natsConnection*, natsSubscription*, natsMsg* raw, void* closure);
  static void on_entry(natsConnection*, natsSubscription*, natsMsg* raw, void* closure);
  void take_entry(const FeedPlace& place, natsMsg* message);
  static void on_told(natsConnection*, natsSubscription*, natsMsg* raw, void* closure) {
    const Message message{raw};
    give(**static_cast<std::shared_ptr<Shared>*>(closure), Told{bytes_of(raw)});
  }
  static void on_error(natsConnection* connection, natsSubscription*, natsStatus status, void* closure) {
    Shared& self = **static_cast<std::shared_ptr<Shared>*>(closure);
    const char* text = nullptr;
    std::string words = natsStatus_GetText(status);
    if (natsConnection_GetLastError(connection, &text) != NATS_OK && text != nullptr && *text != '\0')
      words += std::string{": "} + text;
    const std::scoped_lock lock{self.mutex};
    self.words = std::move(words);
  }
  static void on_disconnected(natsConnection*, void* closure) {
    Shared& self = **static_cast<std::shared_ptr<Shared>*>(closure);
    const std::scoped_lock lock{self.mutex};
    ++self.outages;
  }
  static void on_reconnected(natsConnection*, void* closure) {
    Shared& self = **static_cast<std::shared_ptr<Shared>*>(closure);
    const std::scoped_lock lock{self.receiving};
    if (self.engine == nullptr) return;
    const std::scoped_lock own{self.engine->mutex_};
    self.engine->reconnected_ = true;
  }
  static void give(Shared& shared, EngineEvent event) {
    const std::scoped_lock lock{shared.receiving};
    if (shared.receive) shared.receive(std::move(event));
  }

  NatsNames names_;
  std::shared_ptr<Shared> shared_;
  Options options_;
  Connection connection_;
  std::string inbox_;
  std::vector<Subscription> subscriptions_;
  std::set<Address> listened_;
  std::mutex mutex_;
  std::map<Queue, std::unique_ptr<Pull>> pulls_;
  std::map<Ticket, std::unique_ptr<Feed>> feeds_;
  std::map<Ticket, std::pair<std::string, std::string>> updates_;  // stream, configuration
  bool reconnected_ = false;
};

void NatsEngine::make_options(const EngineOptions& given, const std::string& who) {
  natsOptions* made = nullptr;
  require(natsOptions_Create(&made), "natsOptions_Create", "preparing the connection");
  options_.reset(made);
  std::vector<const char*> servers;
  servers.reserve(given.servers.size());
  for (const std::string& server : given.servers) servers.push_back(server.c_str());
  const auto set = [](natsStatus status) { require(status, "natsOptions", "preparing the connection"); };
  set(natsOptions_SetServers(made, servers.data(), static_cast<int>(servers.size())));
  set(natsOptions_SetName(made, who.c_str()));
  set(natsOptions_SetTimeout(made, 2000));
  set(natsOptions_SetSendAsap(made, true));  // else a small packet waits a millisecond for a thread
  set(natsOptions_SetPingInterval(made, 5000));
  set(natsOptions_SetMaxPingsOut(made, 2));
  set(natsOptions_SetMaxReconnect(made, -1));
  set(natsOptions_SetReconnectWait(made, 100));
  set(natsOptions_SetReconnectJitter(made, 50, 50));
  set(natsOptions_SetFailRequestsOnDisconnect(made, true));
  set(natsOptions_SetIgnoreDiscoveredServers(made, false));
  auto* const kept = keep_for_ever(shared_);
  set(natsOptions_SetErrorHandler(made, &on_error, kept));
  set(natsOptions_SetDisconnectedCB(made, &on_disconnected, kept));
  set(natsOptions_SetReconnectedCB(made, &on_reconnected, kept));
  if (!given.credentials.empty())
    set(natsOptions_SetUserCredentialsFromFiles(made, given.credentials.c_str(), nullptr));
  if (!given.nkey.empty())
    set(natsOptions_SetNKeyFromSeed(made, public_nkey(given.nkey).c_str(), given.nkey.c_str()));
  if (!given.user.empty()) set(natsOptions_SetUserInfo(made, given.user.c_str(), given.password.c_str()));
  if (!given.tls.ca.empty()) set(natsOptions_LoadCATrustedCertificates(made, given.tls.ca.c_str()));
  if (!given.tls.cert.empty())
    set(natsOptions_LoadCertificatesChain(made, given.tls.cert.c_str(), given.tls.key.c_str()));
  if (!given.tls.host.empty()) set(natsOptions_SetExpectedHostname(made, given.tls.host.c_str()));
  if (!given.tls.ca.empty() || !given.tls.cert.empty()) set(natsOptions_SetSecure(made, true));
}

void NatsEngine::on_answer(natsConnection*, natsSubscription*, natsMsg* raw, void* closure) {
  const Message message{raw};
  const std::string_view subject = natsMsg_GetSubject(raw);
  const auto dot = subject.rfind('.');
  if (dot == std::string_view::npos || dot + 2 >= subject.size()) return;
  const char kind = subject[dot + 1];
  Ticket ticket = 0;
  (void)std::from_chars(subject.data() + dot + 2, subject.data() + subject.size(), ticket);
  Answer answer = read_answer(ticket, raw);
  const std::string_view json = data_of(raw);
  if (kind == 'u') {
    Shared& shared = **static_cast<std::shared_ptr<Shared>*>(closure);
    const std::scoped_lock lock{shared.receiving};
    if (shared.engine == nullptr || shared.engine->update(ticket, json)) return;
  }
  if (answer.how == Answer::How::done && kind == 'p') {
    answer.number = json_number(json, "seq");
    answer.duplicate = json.find("\"duplicate\":true") != std::string_view::npos;
  } else if (answer.how == Answer::How::done && (kind == 'e' || kind == 'u')) {
    answer.number = json_number(json, "last_seq");
    answer.text = json_text(json, "created");
  } else if (answer.how == Answer::How::done && kind == 'f') {
    answer.number = json_number(json, "seq");
    try {
      answer.bytes = from_base64(json_text(json, "data"));
    } catch (const DecodeError& error) {
      answer.how = Answer::How::refused;
      answer.text = error.what();
    }
  }
  give(**static_cast<std::shared_ptr<Shared>*>(closure), std::move(answer));
}

void NatsEngine::on_delivery(natsConnection*, natsSubscription*, natsMsg* raw, void* closure) {
  const Message message{raw};
  const auto& place = *static_cast<PullPlace*>(closure);
  Shared& shared = *place.shared;
  const std::scoped_lock lock{shared.receiving};
  if (!shared.receive) return;
  const std::string_view from = or_empty(natsMsg_GetReply(raw));
  AckSubject ack;
  Answer ended;
  if (!parse_ack_subject(from, ack)) {  // the pull's end: nothing there, or its time is over
    if (status_of(raw) == "100") return;
    const std::string_view subject = natsMsg_GetSubject(raw);
    (void)std::from_chars(subject.data() + subject.rfind('.') + 1, subject.data() + subject.size(),
                          ended.ticket);
    if (status_of(raw) == "503") ended.how = Answer::How::missing;
    shared.receive(std::move(ended));
    return;
  }
  Delivery delivery;
  delivery.epoch = epoch_of(ack.stream);
  delivery.sequence = ack.stream_sequence;
  delivery.count = ack.delivered;
  delivery.handle = from;
  delivery.bytes = bytes_of(raw);
  shared.receive(std::move(delivery));
  {
    const std::scoped_lock own{shared.engine->mutex_};
    if (place.pull->left == 0) return;
    if (--place.pull->left != 0) return;
    ended.ticket = place.pull->ticket;
  }
  shared.receive(std::move(ended));
}

void NatsEngine::on_entry(natsConnection*, natsSubscription*, natsMsg* raw, void* closure) {
  const Message message{raw};
  const auto& place = *static_cast<FeedPlace*>(closure);
  const std::scoped_lock lock{place.shared->receiving};
  if (place.shared->receive) place.shared->engine->take_entry(place, raw);
}

void NatsEngine::take_entry(const FeedPlace& place, natsMsg* message) {
  StreamEntry entry;
  {
    const std::scoped_lock lock{mutex_};
    const auto found = feeds_.find(place.ticket);
    if (found == feeds_.end() || found->second->life != place.life) return;
    Feed& feed = *found->second;
    feed.heard = Clock::now();
    const std::string_view from = or_empty(natsMsg_GetReply(message));
    AckSubject ack;
    if (!parse_ack_subject(from, ack)) {
      if (status_of(message) == "100") {
        const char* stalled = nullptr;
        if (!from.empty())
          publish(std::string{from}, {}, {});  // flow control: says that all before it was taken
        if (natsMsgHeader_Get(message, "Nats-Consumer-Stalled", &stalled) == NATS_OK)
          publish(stalled, {}, {});
      } else if (read_answer(0, message).how != Answer::How::done) {
        feed.broken = true;  // the consumer could not be made
      }
      return;
    }
    if (ack.consumer_sequence != feed.expected) {
      feed.broken = true;
      feed.heard = {};
      ++feed.life;  // what else comes of this consumer comes too early
      return;
    }
    ++feed.expected;
    if (ack.stream_sequence < feed.next) return;
    feed.next = ack.stream_sequence + 1;
    entry.feed = place.ticket;
    entry.sequence = ack.stream_sequence;
  }
  entry.bytes = bytes_of(message);
  shared_->receive(std::move(entry));
}

}  // namespace

// cnats before 3.8 leaves a signature out that begins with a zero byte, one in 256, and the server refuses it
// (nats.c #705). The server's next nonce gives another signature. Two such in a row are one in 65,536.
constexpr int signed_connect_tries = 4;

std::unique_ptr<Engine> connect_to_nats(const EngineOptions& options, const std::string& cluster,
                                        const std::string& who, std::chrono::nanoseconds patience,
                                        Engine::Receive receive) {
  auto engine = std::make_unique<NatsEngine>(options, cluster, who, std::move(receive));
  const auto until = Clock::now() + patience;
  int tries_signed = options.nkey.empty() && options.credentials.empty() ? 0 : signed_connect_tries;
  for (;;) {
    const natsStatus status = engine->connect();
    if (status == NATS_OK) return engine;
    if (status == NATS_CONNECTION_AUTH_FAILED && --tries_signed > 0) continue;
    const bool refused = status == NATS_CONNECTION_AUTH_FAILED || status == NATS_NOT_PERMITTED ||
                         status == NATS_SSL_ERROR || status == NATS_SECURE_CONNECTION_REQUIRED ||
                         status == NATS_SECURE_CONNECTION_WANTED;
    if (refused || Clock::now() >= until) {
      std::string servers;
      for (const auto& server : options.servers) servers.append(servers.empty() ? "" : ", ").append(server);
      throw SystemError{"natsConnection_Connect", refused ? EACCES : ECONNREFUSED,
                        "connecting cluster " + cluster + " to " + servers + " (" + last_words(status) + ")",
                        refused ? "Check credentials, user, password and tls, and the server's configuration."
                                : "Start nats-server there, or name the servers that run."};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
  }
}

}  // namespace kindred::internal::cluster
