#pragma once

#include <functional>
#include <memory>
#include <string>

#include "web_request.hpp"

namespace kindred::view {

/// Listens, and speaks HTTP/1.1. Nobody is trusted: each connection has a bounded size and time, there is a
/// bounded number of them, and those who may not look have a small share of it, so that they cannot keep out
/// those that may. Each answer says whether its visitor may (`WebReply::welcome`).
///
/// Threads: connections are read and written on the one that runs it; answers are made on others.
class WebDoor {
 public:
  using Answer = std::function<WebReply(const WebRequest&)>;

  /// Errors: `UsageError`, where it cannot listen there. `port` 0: any that is free.
  WebDoor(const std::string& host, int port, Answer answer);
  WebDoor(const WebDoor&) = delete;
  WebDoor& operator=(const WebDoor&) = delete;
  ~WebDoor();

  [[nodiscard]] int port() const;
  void run();            ///< until `stop`
  void stop() noexcept;  ///< from any thread

 private:
  class Connections;
  std::unique_ptr<Connections> connections_;
};

}  // namespace kindred::view
