#include "web_server.hpp"

#include <charconv>
#include <chrono>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "kindred/error.hpp"
#include "kindred/level.hpp"
#include "merge_metrics.hpp"
#include "page_files.hpp"
#include "stack_text.hpp"

namespace kindred::view {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using internal::TailRequest;

constexpr int max_streams = 32;  // each holds a thread most of the time: fewer than the door has
constexpr auto door_patience = 3s;
constexpr auto stream_look = 500ms;
constexpr auto sign_of_life = 5s;
constexpr std::uint64_t max_lines = 10'000;  // that a log begins with
constexpr std::size_t piece_bytes = 64 * 1024;
constexpr std::string_view too_many_streams =
    "As many pages and logs are followed as may be (32): close one.";

template <class Number>
std::optional<Number> number_in(const std::string& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Ends the count of streams with the stream.
struct StreamPlace {
  std::shared_ptr<std::atomic<int>> count;
  explicit StreamPlace(std::shared_ptr<std::atomic<int>> its_count) : count{std::move(its_count)} {}
  StreamPlace(const StreamPlace&) = delete;
  StreamPlace& operator=(const StreamPlace&) = delete;
  ~StreamPlace() { count->fetch_sub(1); }
};

/// One log that is followed for one page.
struct LogStream {
  internal::DoorPool pool;
  internal::PoolAnswers answers{pool.socket};
  Clock::time_point written = Clock::now();
  explicit LogStream(internal::DoorPool its_pool) : pool{std::move(its_pool)} {}
};

/// Appends what the pool has sent, as server-sent events. False: the log has ended.
bool pass_on(LogStream& stream, std::string& out) {
  using internal::tail_answer::end, internal::tail_answer::lost, internal::tail_answer::refused;
  const auto until = Clock::now() + stream_look;
  for (;;) {
    const auto line = stream.answers.next(out.empty() ? until : Clock::now());
    if (!line) {
      if (!out.empty() || Clock::now() >= until) break;
      out = "event: end\ndata: the connection to the pool is lost\n\n";
      return false;
    }
    const char kind = line->empty() ? '\0' : line->front();
    if (kind == '{') {
      out += fmt::format("data: {}\n\n", *line);
    } else if (kind == lost) {
      out += fmt::format("event: lost\ndata: {}\n\n", line->substr(2));
    } else if (kind == end || kind == refused) {
      out +=
          fmt::format("event: end\ndata: {}\n\n", line->size() > 2 ? line->substr(2) : "the pool has ended");
      return false;
    }
    if (out.size() >= piece_bytes) break;
  }
  if (out.empty() && Clock::now() - stream.written > sign_of_life) out = ":\n\n";
  if (!out.empty()) stream.written = Clock::now();
  return true;
}

std::optional<TailRequest> log_request(const WebRequest& request, std::string& why) {
  TailRequest wanted;
  try {
    if (const auto level = request.value("level"); !level.empty()) wanted.level = parse_level(level);
  } catch (const UsageError& error) {
    why = error.what();
    return std::nullopt;
  }
  wanted.last = 200;
  if (const auto last = number_in<std::uint64_t>(request.value("last")))
    wanted.last = std::min(*last, max_lines);
  if (const auto worker = request.value("worker"); !worker.empty()) {
    const auto index = worker == "parent" ? std::optional{-1} : number_in<int>(worker);
    if (!index || *index < -1) {
      why = fmt::format("worker is '{}'; it must be an index, or parent", worker);
      return std::nullopt;
    }
    wanted.workers.push_back(*index);
  }
  if (const auto task = request.value("task"); !task.empty()) {
    if (const auto id = number_in<std::uint64_t>(task))
      wanted.task_ids.push_back(*id);
    else
      wanted.task_names.push_back(task);
  }
  wanted.text = request.value("text");
  wanted.logger = request.value("logger");
  return wanted;
}

}  // namespace

WebServer::WebServer(PoolSet& pools, const Address& address, std::string token)
    : pools_{pools},
      address_{address},
      check_{std::move(token), address.host},
      door_{address.host, address.port, [this](const WebRequest& request) { return answer(request); }} {
  address_.port = door_.port();
  check_.set_port(address_.port);
}

WebServer::~WebServer() = default;

std::string WebServer::url() const {
  const auto token = check_.token().empty() ? std::string{} : "?token=" + check_.token();
  const bool six = address_.host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}/{}", six ? "[" : "", address_.host, six ? "]" : "", address_.port,
                     token);
}

void WebServer::run() { door_.run(); }

void WebServer::stop() noexcept { door_.stop(); }

WebReply WebServer::answer(const WebRequest& request) {
  auto no = refused(request);
  WebReply reply = no ? std::move(*no) : answer_by_path(request);
  for (
      const auto& [name, value] : std::initializer_list<std::pair<const char*, const char*>>{
          {"Content-Security-Policy",
           "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
           "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
          {"X-Content-Type-Options", "nosniff"},
          {"Referrer-Policy", "no-referrer"},
          {"Cross-Origin-Resource-Policy", "same-origin"},
          {"Cache-Control", "no-store"}})
    reply.headers.emplace_back(name, value);
  return reply;
}

std::optional<WebReply> WebServer::refused(const WebRequest& request) const {
  const auto verdict = check_.check({.from_owner = request.from_owner,
                                     .host = request.host,
                                     .cookie = request.cookie,
                                     .authorization = request.authorization,
                                     .token = request.value("token")});
  const auto stranger = [](int status, std::string_view words) {
    WebReply reply = say(status, words);
    reply.welcome = false;
    return reply;
  };
  if (verdict == VisitorCheck::Verdict::wrong_host) {
    return stranger(
        403, "The name in the address bar is none of this server's: open the address that it printed.");
  }
  if (verdict == VisitorCheck::Verdict::no_token) {
    return stranger(401,
                    "This page is for the user of the pool and root. Others need the token: open the whole "
                    "address that kindred-view printed, or send it as 'Authorization: Bearer TOKEN'.");
  }
  if (request.method != "GET" && request.method != "HEAD" &&
      !check_.is_same_origin(request.origin, request.fetch_site, request.host))
    return say(403, "A page of another site may not change anything here.");
  return std::nullopt;
}

WebReply WebServer::answer_by_path(const WebRequest& request) {
  if (request.path == "/level") {
    return request.method == "POST" ? set_level(request) : say(405, "A level is set by POST.");
  }
  if (request.method != "GET" && request.method != "HEAD") return say(405, "This is read by GET.");
  if (request.path == "/" && request.values.contains("token") && !check_.token().empty()) {
    // Moves the token out of the address bar and into a cookie, which the browser sends to this server only.
    WebReply reply = say(302, "The token is in a cookie now.");
    reply.headers.emplace_back("Location", "/");
    reply.headers.emplace_back("Set-Cookie", fmt::format("{}={}; HttpOnly; SameSite=Strict; Path=/",
                                                         check_.cookie_name(), check_.token()));
    return reply;
  }
  if (request.path == "/events") return pools(request);
  if (request.path == "/log") return log(request);
  if (request.path == "/pools.json")
    return {.type = "application/json", .body = pools_.next(0, 2s).json + "\n"};
  if (request.path == "/metrics") return metrics();
  if (request.path == "/stacks") return stacks(request);
  const PageFile* const file = find_page_file(request.path);
  if (file == nullptr) return say(404, "There is nothing here.");
  return {.type = std::string{file->type}, .body = std::string{file->bytes}};
}

bool WebServer::begin_stream() {
  if (streams_->fetch_add(1) < max_streams) return true;
  streams_->fetch_sub(1);
  return false;
}

WebReply WebServer::pools(const WebRequest&) {
  if (!begin_stream()) return say(503, too_many_streams);
  WebReply reply{.type = "text/event-stream"};
  reply.stream = [this, place = std::make_shared<StreamPlace>(streams_), version = std::uint64_t{0},
                  written = Clock::now()](std::string& out) mutable {
    const auto snapshot = pools_.next(version, stream_look);
    if (snapshot.version != version || version == 0) {
      version = std::max<std::uint64_t>(snapshot.version, 1);
      out = fmt::format("data: {}\n\n", snapshot.json);
    } else if (Clock::now() - written > sign_of_life) {
      out = ":\n\n";
    }
    if (!out.empty()) written = Clock::now();
    return true;
  };
  return reply;
}

WebReply WebServer::log(const WebRequest& request) {
  std::string why;
  const auto wanted = log_request(request, why);
  if (!wanted) return say(400, why);
  auto pool = pools_.connect(request.value("pool"));
  if (!pool && !pools_.latest(request.value("pool"))) return say(404, "There is no such pool.");
  // The page still shows pools that have ended: their log is no error, but at its end.
  if (!pool)
    return {.type = "text/event-stream",
            .body = "event: end\ndata: the pool has ended, or does not answer\n\n"};
  if (!begin_stream()) return say(503, too_many_streams);
  auto place = std::make_shared<StreamPlace>(streams_);
  internal::ask_pool(*pool, *wanted);
  WebReply reply{.type = "text/event-stream"};
  reply.stream = [place, stream = std::make_shared<LogStream>(std::move(*pool))](std::string& out) {
    return pass_on(*stream, out);
  };
  return reply;
}

WebReply WebServer::metrics() const {
  std::vector<std::string> texts;
  for (const auto& key : pools_.live_keys()) {
    auto pool = pools_.connect(key);
    if (!pool) continue;
    TailRequest request;
    request.ask = "metrics";
    internal::ask_pool(*pool, request);
    internal::PoolAnswers answers{pool->socket};
    std::string text;
    const auto until = Clock::now() + door_patience;
    while (const auto line = answers.next(until)) {
      if (line->size() == 1 && line->front() == internal::tail_answer::done) {
        texts.push_back(std::move(text));  // only whole: a pool that stops answering has no text
        break;
      }
      text += *line;
      text += '\n';
    }
  }
  return {.type = "application/openmetrics-text; version=1.0.0; charset=utf-8", .body = merge_metrics(texts)};
}

WebReply WebServer::stacks(const WebRequest& request) const {
  const auto latest = pools_.latest(request.value("pool"));
  const auto index = number_in<int>(request.value("worker"));
  if (!latest || !index) return say(404, "There is no such pool or worker.");
  std::uint32_t pid = 0;
  boost::json::array threads;
  try {
    const auto view = boost::json::parse(*latest);
    for (const auto& worker : view.at("workers").as_array()) {
      if (worker.at("index").to_number<int>() == *index) pid = worker.at("pid").to_number<std::uint32_t>();
    }
    if (pid == 0) return say(404, fmt::format("There is no worker {} now.", *index));
    threads = stacks_as_json(stacks_of(pid));
  } catch (const std::exception& error) {
    return say(500, error.what());
  }
  const boost::json::object answer{{"pid", pid}, {"worker", *index}, {"threads", std::move(threads)}};
  return {.type = "application/json", .body = boost::json::serialize(answer) + "\n"};
}

WebReply WebServer::set_level(const WebRequest& request) const {
  if (!request.content_type.starts_with("application/json")) return say(415, "Send a JSON object.");
  TailRequest wanted;
  wanted.ask = std::string{TailRequest::set_level};
  std::string key;
  try {
    const auto body = boost::json::parse(request.body);
    key = std::string{body.at("pool").as_string()};
    wanted.level = parse_level(std::string{body.at("level").as_string()});
    if (const auto* const worker = body.as_object().if_contains("worker");
        worker != nullptr && !worker->is_null())
      wanted.workers.push_back(worker->to_number<int>());
    if (const auto* const logger = body.as_object().if_contains("logger"); logger != nullptr)
      wanted.logger = std::string{logger->as_string()};
  } catch (const std::exception& error) {
    return say(400, error.what());
  }
  auto pool = pools_.connect(key);
  if (!pool) return say(404, "There is no such pool, or it has ended.");
  internal::ask_pool(*pool, wanted);
  internal::PoolAnswers answers{pool->socket};
  const auto line = answers.next(Clock::now() + door_patience);
  if (!line || line->empty()) return say(504, "The pool did not answer.");
  if (line->front() == internal::tail_answer::done) return say(200, "done");
  return say(400, std::string{line->size() > 2 ? line->substr(2) : *line});
}

}  // namespace kindred::view
