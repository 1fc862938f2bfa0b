package clients;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;

/** What each client library is asked to do, once for all libraries. */
final class Features {
    private static final int TIMEOUT_S = 20;

    /** One connection of a library, as the features need it. */
    interface Connection {
        void subscribe(String filter, int qos) throws Exception;

        void publish(String topic, String payload, int qos, boolean retain) throws Exception;

        /** "qos retain payload" of each message. */
        BlockingQueue<String> messages();

        boolean sessionPresent();

        void disconnect() throws Exception;

        /** Ends without DISCONNECT. */
        void drop() throws Exception;
    }

    /** A library. */
    interface Library {
        Connection connect(String clientId, boolean clean, String willTopic) throws Exception;
    }

    private interface Feature {
        void run() throws Exception;
    }

    private final Library library;
    private final String prefix;

    Features(Library library, String prefix) {
        this.library = library;
        this.prefix = prefix;
    }

    private static void report(String name, Feature feature) {
        try {
            feature.run();
            System.out.println("ok " + name);
        } catch (Throwable failure) {
            System.out.println("not ok " + name + " " + failure.toString().replace('\n', ' '));
        }
    }

    private static void expect(Connection connection, String... wanted) throws Exception {
        List<String> found = new ArrayList<>();
        for (int i = 0; i < wanted.length; i++) {
            String message = connection.messages().poll(TIMEOUT_S, TimeUnit.SECONDS);
            if (message == null) {
                break;
            }
            found.add(message);
        }
        if (!found.equals(List.of(wanted))) {
            throw new IllegalStateException("wanted " + List.of(wanted) + ", got " + found);
        }
    }

    static String describe(int qos, boolean retain, byte[] payload) {
        return qos + " " + retain + " " + new String(payload, StandardCharsets.UTF_8);
    }

    void run() {
        report("connect", this::connect);
        for (int qos = 0; qos <= 2; qos++) {
            int level = qos;
            report("qos" + qos, () -> qos(level));
        }
        report("session", this::session);
        report("retained", this::retained);
        report("will", this::will);
        report("shared", this::shared);
    }

    private void connect() throws Exception {
        Connection one = library.connect(prefix + "-connect", true, null);
        if (one.sessionPresent()) {
            throw new IllegalStateException("session present after a clean start");
        }
        one.disconnect();
    }

    private void qos(int qos) throws Exception {
        Connection one = library.connect(prefix + "-qos" + qos, true, null);
        one.subscribe(prefix + "/qos" + qos, qos);
        for (int n = 0; n < 5; n++) {
            one.publish(prefix + "/qos" + qos, "m" + n, qos, false);
        }
        String head = qos + " false m";
        expect(one, head + 0, head + 1, head + 2, head + 3, head + 4);
        one.disconnect();
    }

    private void session() throws Exception {
        Connection away = library.connect(prefix + "-away", false, null);
        away.subscribe(prefix + "/session", 2);
        away.disconnect();
        Connection other = library.connect(prefix + "-other", true, null);
        other.publish(prefix + "/session", "one", 1, false);
        other.publish(prefix + "/session", "three", 1, false);
        other.disconnect();
        away = library.connect(prefix + "-away", false, null);
        if (!away.sessionPresent()) {
            throw new IllegalStateException("no session present");
        }
        expect(away, "1 false one", "1 false three");
        away.disconnect();
    }

    private void retained() throws Exception {
        Connection one = library.connect(prefix + "-retained", true, null);
        one.publish(prefix + "/retained", "kept", 1, true);
        one.subscribe(prefix + "/retained", 1);
        expect(one, "1 true kept");
        one.publish(prefix + "/retained", "", 1, true);
        expect(one, "1 false ");
        one.disconnect();
    }

    private void will() throws Exception {
        Connection witness = library.connect(prefix + "-witness", true, null);
        witness.subscribe(prefix + "/will", 1);
        Connection mortal = library.connect(prefix + "-mortal", true, prefix + "/will");
        mortal.drop();
        expect(witness, "1 false gone");
        witness.disconnect();
    }

    private void shared() throws Exception {
        Connection first = library.connect(prefix + "-first", true, null);
        Connection second = library.connect(prefix + "-second", true, null);
        first.subscribe("$share/group/" + prefix + "/shared", 1);
        second.subscribe("$share/group/" + prefix + "/shared", 1);
        Connection publisher = library.connect(prefix + "-publisher", true, null);
        int count = 20;
        for (int n = 0; n < count; n++) {
            publisher.publish(prefix + "/shared", "m" + n, 1, false);
        }
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(TIMEOUT_S);
        List<String> found = new ArrayList<>();
        while (found.size() < count && System.nanoTime() < deadline) {
            for (Connection member : List.of(first, second)) {
                String message = member.messages().poll(10, TimeUnit.MILLISECONDS);
                if (message != null) {
                    found.add(message);
                }
            }
        }
        for (int n = 0; n < count; n++) {
            if (!found.remove("1 false m" + n)) {
                throw new IllegalStateException("m" + n + " did not arrive");
            }
        }
        if (!found.isEmpty()) {
            throw new IllegalStateException("too much arrived: " + found);
        }
        first.disconnect();
        second.disconnect();
        publisher.disconnect();
    }
}
