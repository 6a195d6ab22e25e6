#include "web_door.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include "kindred/error.hpp"
#include "visitor_check.hpp"

namespace kindred::view {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Done = asio::awaitable<void>;

constexpr std::size_t max_connections = 128;
constexpr std::size_t max_strangers =
    32;  // of these, connections of visitors that have not shown that they may look
constexpr std::size_t answering_threads = 48;
constexpr std::uint32_t head_bytes = 16 * 1024;
constexpr std::uint64_t body_bytes = 16 * 1024;
constexpr auto request_patience = 10s;  // until a request has arrived whole; also between two
constexpr auto write_patience = 5s;     // until a piece of an answer is taken
constexpr auto accept_pause = 100ms;    // where this process has no descriptor left

/// The calling coroutine goes on when `error` is set.
auto into(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

std::string header(const http::request<http::string_body>& request, std::string_view name) {
  const auto value = request[{name.data(), name.size()}];
  return {value.data(), value.size()};
}

/// Is there nothing to answer, because the visitor went or was too slow?
bool is_silent_end(const ErrorCode& error) {
  return error == http::error::end_of_stream || error == http::error::partial_message ||
         error == beast::error::timeout || error.category() == asio::error::get_system_category();
}

WebReply refusal(const ErrorCode& error) {
  if (error == http::error::body_limit) return say(413, "The body is too large.");
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return say(431, "The head of the request is too large.");
  return say(400, "This is no request of HTTP/1.1.");
}

}  // namespace

class WebDoor::Connections {
 public:
  Connections(const std::string& host, int port, Answer answer) : answer_{std::move(answer)} {
    try {
      tcp::resolver resolver{io_};
      const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive);
      const tcp::endpoint endpoint = *found.begin();
      acceptor_.open(endpoint.protocol());
      acceptor_.set_option(tcp::acceptor::reuse_address{true});
      acceptor_.bind(endpoint);
      acceptor_.listen();
    } catch (const boost::system::system_error& error) {
      throw UsageError{
          fmt::format("cannot listen at {}:{}: {}. Use a free port, and an address of this machine.", host,
                      port, error.code().message())};
    }
    port_ = acceptor_.local_endpoint().port();
  }
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;
  ~Connections() {
    // Order: an answer that is made now refers to the frame of its connection, which the io_context destroys.
    workers_.join();
  }

  [[nodiscard]] int port() const noexcept { return port_; }
  void run() {
    asio::co_spawn(io_, accept(), asio::detached);
    io_.run();
  }
  void stop() noexcept {
    stopped_.store(true);
    io_.stop();
  }

 private:
  /// One of the connections that there may be, from its begin to its end.
  class Place {
   public:
    /// `stranger`: whom the connection is from; empty where it is this user's or root's.
    Place(Connections& all, beast::tcp_stream& stream, std::string stranger)
        : all_{all}, stream_{stream}, stranger_{std::move(stranger)} {
      ++all_.open_;
      if (!stranger_.empty()) all_.strangers_.push_back(this);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
      admit();
      --all_.open_;
    }
    /// The visitor may look: it is no stranger from now on.
    void admit() noexcept { all_.strangers_.remove(this); }
    void evict() {
      admit();
      stream_.close();
    }
    [[nodiscard]] const std::string& stranger() const noexcept { return stranger_; }

   private:
    Connections& all_;
    beast::tcp_stream& stream_;
    const std::string stranger_;
  };

  /// One more stranger comes. Where there are as many as there may be, the one with the most connections
  /// loses its oldest: a visitor that shows the token at once is let in, however many connections another one
  /// holds.
  void make_room() {
    if (strangers_.size() < max_strangers) return;
    std::map<std::string_view, std::size_t> counts;
    for (const Place* place : strangers_) ++counts[place->stranger()];
    const auto most =
        std::ranges::max_element(counts, {}, [](const auto& one) { return one.second; })->second;
    (*std::ranges::find_if(strangers_, [&](const Place* place) {
      return counts[place->stranger()] == most;
    }))->evict();
  }

  Done accept() {
    while (!stopped_.load()) {
      ErrorCode error;
      tcp::socket socket = co_await acceptor_.async_accept(into(error));
      if (error) {
        asio::steady_timer pause{io_, accept_pause};
        co_await pause.async_wait(into(error));
        continue;
      }
      const tcp::endpoint peer = socket.remote_endpoint(error);
      if (error) continue;
      const tcp::endpoint here = socket.local_endpoint(error);
      if (error || open_ >= max_connections) continue;
      std::string stranger = stranger_at({.from_address = peer.address().to_string(),
                                          .from_port = peer.port(),
                                          .to_address = here.address().to_string(),
                                          .to_port = here.port()});
      if (!stranger.empty()) make_room();
      asio::co_spawn(io_, serve(std::move(socket), std::move(stranger)), asio::detached);
    }
  }

  Done serve(tcp::socket socket, std::string stranger) {
    const bool from_owner = stranger.empty();
    beast::tcp_stream stream{std::move(socket)};
    Place place{*this, stream, std::move(stranger)};
    beast::flat_buffer buffer{head_bytes + body_bytes};
    bool goes_on = true;
    while (goes_on && !stopped_.load()) {
      http::request_parser<http::string_body> parser;
      parser.header_limit(head_bytes);
      parser.body_limit(body_bytes);
      ErrorCode error;
      stream.expires_after(request_patience);
      co_await http::async_read(stream, buffer, parser, into(error));
      if (error && is_silent_end(error)) co_return;
      WebReply reply;
      if (error)
        reply = refusal(error);
      else
        co_await on_worker([&] { reply = answer_to(parser.get(), from_owner); });
      if (reply.welcome && !error) place.admit();
      goes_on = !error && parser.get().keep_alive();
      const bool is_head = !error && parser.get().method() == http::verb::head;
      if (reply.stream && !is_head)
        co_await write_stream(stream, std::move(reply), goes_on);
      else
        co_await write_whole(stream, reply, is_head, goes_on);
    }
    ErrorCode error;
    (void)stream.socket().shutdown(tcp::socket::shutdown_both, error);
  }

  WebReply answer_to(const http::request<http::string_body>& message, bool from_owner) const noexcept try {
    const auto target = parse_target({message.target().data(), message.target().size()});
    if (!target || message.version() != 11) {
      WebReply reply = say(400, "This is no request of HTTP/1.1.");
      reply.welcome = false;
      return reply;
    }
    return answer_({.method = std::string{message.method_string()},
                    .path = target->path,
                    .values = target->values,
                    .host = message.count(http::field::host) == 1 ? header(message, "Host") : std::string{},
                    .cookie = header(message, "Cookie"),
                    .authorization = header(message, "Authorization"),
                    .origin = header(message, "Origin"),
                    .fetch_site = header(message, "Sec-Fetch-Site"),
                    .content_type = header(message, "Content-Type"),
                    .body = message.body(),
                    .from_owner = from_owner});
  } catch (const std::exception&) {
    return {.status = 500};  // no memory
  }

  template <class Message>
  static void put_head(Message& message, const WebReply& reply, bool goes_on) {
    message.result(static_cast<unsigned>(reply.status));
    message.set(http::field::content_type, reply.type);
    for (const auto& [name, value] : reply.headers) message.set(name, value);
    message.keep_alive(goes_on);
  }

  static Done write_whole(beast::tcp_stream& stream, WebReply& reply, bool is_head, bool& goes_on) {
    ErrorCode error;
    stream.expires_after(write_patience);
    if (is_head) {
      http::response<http::empty_body> message;
      put_head(message, reply, goes_on);
      message.content_length(reply.body.size());
      co_await http::async_write(stream, message, into(error));
    } else {
      http::response<http::string_body> message;
      put_head(message, reply, goes_on);
      message.body() = std::move(reply.body);
      message.prepare_payload();
      co_await http::async_write(stream, message, into(error));
    }
    if (error) goes_on = false;
  }

  Done write_stream(beast::tcp_stream& stream, WebReply reply, bool& goes_on) {
    http::response<http::empty_body> message;
    put_head(message, reply, false);
    message.chunked(true);
    http::response_serializer<http::empty_body> head{message};
    goes_on = false;
    ErrorCode error;
    stream.expires_after(write_patience);
    co_await http::async_write_header(stream, head, into(error));
    for (bool more = true; more && !error && !stopped_.load();) {
      std::string piece;
      co_await on_worker([&] { more = next_piece(reply, piece); });
      if (piece.empty()) continue;
      stream.expires_after(write_patience);
      co_await asio::async_write(stream, http::make_chunk(asio::buffer(piece)), into(error));
    }
    if (error) co_return;
    stream.expires_after(write_patience);
    co_await asio::async_write(stream, http::make_chunk_last(), into(error));
  }

  static bool next_piece(const WebReply& reply, std::string& piece) noexcept try {
    return reply.stream(piece);
  } catch (const std::exception&) {
    return false;  // no memory
  }

  /// What may wait runs there; the coroutine goes on here when it is done.
  template <class Work>
  Done on_worker(Work work) {
    co_await asio::co_spawn(
        workers_,
        [](Work& its) -> Done {
          its();
          co_return;
        }(work),
        asio::use_awaitable);
  }

  // Order: the threads that make answers end before the connections, which own what answers refer to.
  asio::io_context io_{1};
  tcp::acceptor acceptor_{io_};
  Answer answer_;
  int port_ = 0;
  std::size_t open_ = 0;
  std::list<Place*> strangers_;  // in the order in which they came
  std::atomic<bool> stopped_{false};
  asio::thread_pool workers_{answering_threads};
};

WebDoor::WebDoor(const std::string& host, int port, Answer answer)
    : connections_{std::make_unique<Connections>(host, port, std::move(answer))} {}
WebDoor::~WebDoor() = default;
int WebDoor::port() const { return connections_->port(); }
void WebDoor::run() { connections_->run(); }
void WebDoor::stop() noexcept { connections_->stop(); }

}  // namespace kindred::view
