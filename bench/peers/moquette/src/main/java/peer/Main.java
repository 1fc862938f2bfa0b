package peer;

import io.moquette.broker.Server;
import io.moquette.broker.config.MemoryConfig;
import java.util.Properties;

/** A Moquette server for the benchmark: Main PORT FOLDER durable|memory. */
public final class Main {
    private Main() {
    }

    public static void main(final String[] args) throws Exception {
        final Properties settings = new Properties();
        settings.setProperty("host", "127.0.0.1");
        settings.setProperty("port", args[0]);
        settings.setProperty("allow_anonymous", "true");
        settings.setProperty("telemetry_enabled", "false");
        settings.setProperty("data_path", args[1]);
        settings.setProperty("persistence_enabled", String.valueOf(args[2].equals("durable")));
        settings.setProperty("session_queue_size", "1000000");
        settings.setProperty("netty.mqtt.message_size", "1048576");
        final Server server = new Server();
        server.startServer(new MemoryConfig(settings));
        Runtime.getRuntime().addShutdownHook(new Thread(server::stopServer));
        Thread.currentThread().join();
    }
}
