// Loguru's recipes for context: bind, contextualize, patch, and structured arguments. The fields travel with
// the records of all processes.
//
// expect: [w0 checkout#1] begins {request=17 user=7}
// expect: [w0 checkout#1 pay] paid {request=17 user=7 service=billing amount=9.5}
// expect: [w0 checkout#1] ends
// expect: a token was ***
#include <string>

#include <kindred/kindred.hpp>

void checkout(int request, int user) {
  {
    const kindred::LogScope scope{{"request", request},
                                  {"user", user}};  // with logger.contextualize(request=..., user=...):
    kindred::log_info("begins");
    static const kindred::Logger pay =
        kindred::Logger{"pay"}.with({{"service", "billing"}});  // logger.bind(service="billing")
    pay.info("paid", kindred::kv("amount", 9.5));               // logger.info("paid", amount=9.5)
  }
  kindred::log_info("ends");
  kindred::log_info("a token was {}", "secret");
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1}};
  pool.logger().add_sink(kindred::sinks::stdout_color());
  // logger.configure(patcher=...)
  pool.logger().on_record([](kindred::LogRecord& record) {
    if (const auto at = record.message.find("secret"); at != std::string::npos)
      record.message.replace(at, 6, "***");
  });
  pool.submit(checkout, 17, 7).get();
}
