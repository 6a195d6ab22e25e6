#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "pool_set.hpp"
#include "visitor_check.hpp"
#include "web_door.hpp"

namespace kindred::view {

/// The page and what it asks for. libpool/doc/view.md has the table of paths.
class WebServer {
 public:
  struct Address {
    std::string host = "127.0.0.1";
    int port = 0;  ///< 0: any that is free
  };
  /// Errors: `UsageError`, where it cannot listen there.
  WebServer(PoolSet& pools, const Address& address, std::string token);
  WebServer(const WebServer&) = delete;
  WebServer& operator=(const WebServer&) = delete;
  ~WebServer();

  [[nodiscard]] std::string url() const;
  void run();            ///< serves until `stop`
  void stop() noexcept;  ///< from any thread

 private:
  [[nodiscard]] WebReply answer(const WebRequest& request);
  /// Returns the reply to a visitor who is refused; nothing: the visitor may look, and change levels.
  [[nodiscard]] std::optional<WebReply> refused(const WebRequest& request) const;
  [[nodiscard]] WebReply answer_by_path(const WebRequest& request);
  [[nodiscard]] WebReply pools(const WebRequest& request);
  [[nodiscard]] WebReply log(const WebRequest& request);
  [[nodiscard]] WebReply metrics() const;
  [[nodiscard]] WebReply stacks(const WebRequest& request) const;
  [[nodiscard]] WebReply set_level(const WebRequest& request) const;
  [[nodiscard]] bool begin_stream();

  PoolSet& pools_;
  Address address_;
  VisitorCheck check_;
  std::shared_ptr<std::atomic<int>> streams_ = std::make_shared<std::atomic<int>>(0);
  WebDoor door_;
};

}  // namespace kindred::view
