#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "pool_set.hpp"
#include "visitor_check.hpp"

namespace httplib {
class Server;
struct Request;
struct Response;
}  // namespace httplib

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
  [[nodiscard]] bool let_in(const httplib::Request& request, httplib::Response& response);
  void add_routes();
  void serve_pools(const httplib::Request& request, httplib::Response& response);
  void serve_log(const httplib::Request& request, httplib::Response& response);
  void serve_metrics(httplib::Response& response);
  void serve_stacks(const httplib::Request& request, httplib::Response& response);
  void set_level(const httplib::Request& request, httplib::Response& response);
  [[nodiscard]] bool begin_stream(httplib::Response& response);

  PoolSet& pools_;
  Address address_;
  VisitorCheck check_;
  std::unique_ptr<httplib::Server> server_;
  std::shared_ptr<std::atomic<int>> streams_ = std::make_shared<std::atomic<int>>(0);
  std::atomic<bool> stopped_{false};
};

}  // namespace kindred::view
