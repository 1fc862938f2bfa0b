package clients;

/** usage: Main paho3|paho5|hivemq PORT */
public final class Main {
    private Main() {
    }

    public static void main(String[] args) {
        int port = Integer.parseInt(args[1]);
        Features.Library library;
        switch (args[0]) {
        case "paho3":
            library = (id, clean, will) -> new Paho3(port, id, clean, will);
            break;
        case "paho5":
            library = (id, clean, will) -> new Paho5(port, id, clean, will);
            break;
        default:
            library = (id, clean, will) -> new HiveMq(port, id, clean, will);
            break;
        }
        new Features(library, "java-" + args[0]).run();
        System.out.flush();
        Runtime.getRuntime().halt(0); // dropped clients leave threads behind
    }
}
