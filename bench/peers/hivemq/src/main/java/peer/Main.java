package peer;

import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A HiveMQ CE server for the benchmark: Main FOLDER, with its configuration in FOLDER/conf/config.xml.
 * Anyone may connect.
 */
public final class Main {
    private static final class AllowAll implements ExtensionMain {
        @Override
        public void extensionStart(final ExtensionStartInput in, final ExtensionStartOutput out) {
            final SimpleAuthenticator allow = (input, output) -> output.authenticateSuccessfully();
            Services.securityRegistry().setAuthenticatorProvider(input -> allow);
        }

        @Override
        public void extensionStop(final ExtensionStopInput in, final ExtensionStopOutput out) {
        }
    }

    private Main() {
    }

    public static void main(final String[] args) throws Exception {
        final Path folder = Path.of(args[0]);
        final Path data = Files.createDirectories(folder.resolve("hivemq-data"));
        final Path extensions = Files.createDirectories(folder.resolve("extensions"));
        final EmbeddedExtension allowAll = EmbeddedExtension.builder()
                .withId("allow-all").withName("Allow all").withVersion("1").withAuthor("bench")
                .withPriority(0).withStartPriority(1000)
                .withExtensionMain(new AllowAll()).build();
        final EmbeddedHiveMQ server = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(folder.resolve("conf"))
                .withDataFolder(data)
                .withExtensionsFolder(extensions)
                .withEmbeddedExtension(allowAll)
                .build();
        server.start().join();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> server.stop().join()));
        Thread.currentThread().join();
    }
}
