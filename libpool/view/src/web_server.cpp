#include "web_server.hpp"

#include <httplib.h>

#include <charconv>
#include <chrono>
#include <optional>
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

constexpr int most_threads = 48;  // a stream holds one for as long as it lasts
constexpr int most_streams = 32;
constexpr auto door_patience = 3s;
constexpr auto stream_look = 500ms;
constexpr auto sign_of_life = 5s;
constexpr std::size_t piece_bytes = 64 * 1024;

void say(httplib::Response& response, int status, const std::string& words) {
  response.status = status;
  response.set_content(words + "\n", "text/plain; charset=utf-8");
}

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

/// Writes what the pool has sent, as events. False: that was the end, or the page has gone.
bool pass_on(LogStream& stream, httplib::DataSink& sink) {
  using internal::tail_answer::end, internal::tail_answer::lost, internal::tail_answer::refused;
  std::string out;
  bool over = false;
  const auto until = Clock::now() + stream_look;
  for (;;) {
    const auto line = stream.answers.next(out.empty() ? until : Clock::now());
    if (!line) {
      over = out.empty() && Clock::now() < until;
      break;
    }
    const char kind = line->empty() ? '\0' : line->front();
    if (kind == '{') {
      out += fmt::format("data: {}\n\n", *line);
    } else if (kind == lost) {
      out += fmt::format("event: lost\ndata: {}\n\n", line->substr(2));
    } else if (kind == end || kind == refused) {
      out +=
          fmt::format("event: end\ndata: {}\n\n", line->size() > 2 ? line->substr(2) : "the pool has ended");
      over = true;
      break;
    }
    if (out.size() >= piece_bytes) break;
  }
  if (over && out.empty()) out = "event: end\ndata: the connection to the pool is lost\n\n";
  if (out.empty() && Clock::now() - stream.written > sign_of_life) out = ":\n\n";
  if (!out.empty()) {
    stream.written = Clock::now();
    if (!sink.write(out.data(), out.size())) return false;
  }
  if (over) sink.done();
  return sink.is_writable();
}

std::optional<TailRequest> log_request(const httplib::Request& request, std::string& why) {
  TailRequest wanted;
  try {
    if (request.has_param("level")) wanted.level = parse_level(request.get_param_value("level"));
  } catch (const UsageError& error) {
    why = error.what();
    return std::nullopt;
  }
  wanted.last = 200;
  if (request.has_param("last"))
    wanted.last = number_in<std::uint64_t>(request.get_param_value("last")).value_or(200);
  if (const auto worker = request.get_param_value("worker"); !worker.empty()) {
    const auto index = worker == "parent" ? std::optional{-1} : number_in<int>(worker);
    if (!index || *index < -1) {
      why = fmt::format("worker is '{}'; it must be an index, or parent", worker);
      return std::nullopt;
    }
    wanted.workers.push_back(*index);
  }
  if (const auto task = request.get_param_value("task"); !task.empty()) {
    if (const auto id = number_in<std::uint64_t>(task))
      wanted.task_ids.push_back(*id);
    else
      wanted.task_names.push_back(task);
  }
  wanted.text = request.get_param_value("text");
  wanted.logger = request.get_param_value("logger");
  return wanted;
}

}  // namespace

WebServer::WebServer(PoolSet& pools, const Address& address, std::string token)
    : pools_{pools},
      address_{address},
      check_{std::move(token), address.host},
      server_{std::make_unique<httplib::Server>()} {
  server_->new_task_queue = [] { return new httplib::ThreadPool{most_threads}; };
  server_->set_payload_max_length(16 * 1024);
  server_->set_read_timeout(5);
  server_->set_write_timeout(5);
  server_->set_keep_alive_timeout(5);
  server_->set_default_headers(
      {{"Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
       {"X-Content-Type-Options", "nosniff"},
       {"Referrer-Policy", "no-referrer"},
       {"Cross-Origin-Resource-Policy", "same-origin"},
       {"Cache-Control", "no-store"}});
  add_routes();
  const bool bound = address_.port == 0 ? (address_.port = server_->bind_to_any_port(address_.host)) > 0
                                        : server_->bind_to_port(address_.host, address_.port);
  if (!bound) {
    throw UsageError{fmt::format("cannot listen at {}:{}. Use a free port, and an address of this machine.",
                                 address.host, address.port)};
  }
  check_.set_port(address_.port);
}

WebServer::~WebServer() = default;

std::string WebServer::url() const {
  const auto token = check_.token().empty() ? std::string{} : "?token=" + check_.token();
  const bool six = address_.host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}/{}", six ? "[" : "", address_.host, six ? "]" : "", address_.port,
                     token);
}

void WebServer::run() { server_->listen_after_bind(); }

void WebServer::stop() noexcept {
  stopped_.store(true);
  server_->stop();
}

bool WebServer::let_in(const httplib::Request& request, httplib::Response& response) {
  const auto verdict = check_.check({.address = request.remote_addr,
                                     .port = request.remote_port,
                                     .host = request.get_header_value("Host"),
                                     .cookie = request.get_header_value("Cookie"),
                                     .authorization = request.get_header_value("Authorization"),
                                     .token = request.get_param_value("token")});
  if (verdict == VisitorCheck::Verdict::wrong_host) {
    say(response, 403,
        "The name in the address bar is none of this server's: open the address that it printed.");
    return false;
  }
  if (verdict == VisitorCheck::Verdict::no_token) {
    say(response, 401,
        "This page is for the user of the pool and root. Others need the token: open the whole address that "
        "kindred-view printed, or send it as 'Authorization: Bearer TOKEN'.");
    return false;
  }
  if (request.method != "GET" && request.method != "HEAD" &&
      !check_.is_same_origin(request.get_header_value("Origin"), request.get_header_value("Sec-Fetch-Site"),
                             request.get_header_value("Host"))) {
    say(response, 403, "A page of another site may not change anything here.");
    return false;
  }
  return true;
}

void WebServer::add_routes() {
  server_->set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
    if (!let_in(request, response)) return httplib::Server::HandlerResponse::Handled;
    if (request.path == "/" && request.has_param("token") && !check_.token().empty()) {
      // Out of the address bar, and into a cookie that only this server gets.
      response.set_header("Set-Cookie", fmt::format("{}={}; HttpOnly; SameSite=Strict; Path=/",
                                                    check_.cookie_name(), check_.token()));
      response.set_redirect("/");
      return httplib::Server::HandlerResponse::Handled;
    }
    return httplib::Server::HandlerResponse::Unhandled;
  });
  server_->Get("/events", [this](const auto& request, auto& response) { serve_pools(request, response); });
  server_->Get("/pools.json", [this](const auto&, auto& response) {
    response.set_content(pools_.next(0, 2s).json + "\n", "application/json");
  });
  server_->Get("/log", [this](const auto& request, auto& response) { serve_log(request, response); });
  server_->Get("/metrics", [this](const auto&, auto& response) { serve_metrics(response); });
  server_->Get("/stacks", [this](const auto& request, auto& response) { serve_stacks(request, response); });
  server_->Post("/level", [this](const auto& request, auto& response) { set_level(request, response); });
  server_->Get(".*", [](const httplib::Request& request, httplib::Response& response) {
    const PageFile* const file = find_page_file(request.path);
    if (file == nullptr) return say(response, 404, "There is nothing here.");
    response.set_content(file->bytes.data(), file->bytes.size(), std::string{file->type});
  });
}

bool WebServer::begin_stream(httplib::Response& response) {
  if (streams_->fetch_add(1) < most_streams) return true;
  streams_->fetch_sub(1);
  say(response, 503,
      fmt::format("{} pages and logs are followed, which are as many as may be.", most_streams));
  return false;
}

void WebServer::serve_pools(const httplib::Request&, httplib::Response& response) {
  if (!begin_stream(response)) return;
  auto place = std::make_shared<StreamPlace>(streams_);
  response.set_chunked_content_provider("text/event-stream",
                                        [this, place, version = std::uint64_t{0}, written = Clock::now()](
                                            std::size_t, httplib::DataSink& sink) mutable {
                                          auto snapshot = pools_.next(version, stream_look);
                                          std::string out;
                                          if (snapshot.version != version || version == 0) {
                                            version = std::max<std::uint64_t>(snapshot.version, 1);
                                            out = fmt::format("data: {}\n\n", snapshot.json);
                                          } else if (Clock::now() - written > sign_of_life) {
                                            out = ":\n\n";
                                          }
                                          if (!out.empty()) {
                                            written = Clock::now();
                                            if (!sink.write(out.data(), out.size())) return false;
                                          }
                                          return !stopped_.load() && sink.is_writable();
                                        });
}

void WebServer::serve_log(const httplib::Request& request, httplib::Response& response) {
  std::string why;
  const auto wanted = log_request(request, why);
  if (!wanted) return say(response, 400, why);
  auto pool = pools_.connect(request.get_param_value("pool"));
  if (!pool) return say(response, 404, "There is no such pool, or it has ended.");
  if (!begin_stream(response)) return;
  auto place = std::make_shared<StreamPlace>(streams_);
  internal::ask_pool(*pool, *wanted);
  auto stream = std::make_shared<LogStream>(std::move(*pool));
  response.set_chunked_content_provider("text/event-stream",
                                        [this, place, stream](std::size_t, httplib::DataSink& sink) {
                                          return pass_on(*stream, sink) && !stopped_.load();
                                        });
}

void WebServer::serve_metrics(httplib::Response& response) {
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
        texts.push_back(std::move(text));  // whole, or not at all
        break;
      }
      text += *line;
      text += '\n';
    }
  }
  response.set_content(merge_metrics(texts), "application/openmetrics-text; version=1.0.0; charset=utf-8");
}

void WebServer::serve_stacks(const httplib::Request& request, httplib::Response& response) {
  const auto latest = pools_.latest(request.get_param_value("pool"));
  const auto index = number_in<int>(request.get_param_value("worker"));
  if (!latest || !index) return say(response, 404, "There is no such pool or worker.");
  std::uint32_t pid = 0;
  boost::json::array threads;
  try {
    const auto view = boost::json::parse(*latest);
    for (const auto& worker : view.at("workers").as_array()) {
      if (worker.at("index").to_number<int>() == *index) pid = worker.at("pid").to_number<std::uint32_t>();
    }
    if (pid == 0) return say(response, 404, fmt::format("There is no worker {} now.", *index));
    threads = stacks_as_json(stacks_of(pid));
  } catch (const std::exception& error) {
    return say(response, 500, error.what());
  }
  const boost::json::object answer{{"pid", pid}, {"worker", *index}, {"threads", std::move(threads)}};
  response.set_content(boost::json::serialize(answer) + "\n", "application/json");
}

void WebServer::set_level(const httplib::Request& request, httplib::Response& response) {
  if (!request.get_header_value("Content-Type").starts_with("application/json"))
    return say(response, 415, "Send a JSON object.");
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
    return say(response, 400, error.what());
  }
  auto pool = pools_.connect(key);
  if (!pool) return say(response, 404, "There is no such pool, or it has ended.");
  internal::ask_pool(*pool, wanted);
  internal::PoolAnswers answers{pool->socket};
  const auto line = answers.next(Clock::now() + door_patience);
  if (!line || line->empty()) return say(response, 504, "The pool did not answer.");
  if (line->front() == internal::tail_answer::done) return say(response, 200, "done");
  say(response, 400, std::string{line->size() > 2 ? line->substr(2) : *line});
}

}  // namespace kindred::view
