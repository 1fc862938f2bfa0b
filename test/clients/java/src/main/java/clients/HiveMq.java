package clients;

import com.hivemq.client.mqtt.MqttClient;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5ClientBuilder;
import com.hivemq.client.mqtt.mqtt5.message.connect.connack.Mqtt5ConnAck;
import com.hivemq.client.mqtt.mqtt5.message.disconnect.Mqtt5DisconnectReasonCode;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** HiveMQ's client for MQTT 5.0. It cannot vanish, so it disconnects with its will instead. */
final class HiveMq implements Features.Connection {
    private final BlockingQueue<String> messages = new LinkedBlockingQueue<>();
    private final Mqtt5AsyncClient client;
    private final boolean present;

    HiveMq(int port, String id, boolean clean, String willTopic) throws Exception {
        Mqtt5ClientBuilder builder =
                MqttClient.builder().useMqttVersion5().identifier(id).serverHost("127.0.0.1").serverPort(port);
        if (willTopic != null) {
            builder = builder.willPublish().topic(willTopic).qos(MqttQos.AT_LEAST_ONCE)
                    .payload("gone".getBytes()).applyWillPublish();
        }
        client = builder.buildAsync();
        client.publishes(MqttGlobalPublishFilter.ALL, publish -> messages.add(Features.describe(
                publish.getQos().getCode(), publish.isRetain(), publish.getPayloadAsBytes())));
        Mqtt5ConnAck answer = await(client.connectWith().cleanStart(clean)
                .sessionExpiryInterval(clean ? 0 : 600).send());
        present = answer.isSessionPresent();
    }

    private static <T> T await(CompletableFuture<T> future) throws Exception {
        return future.get(20, TimeUnit.SECONDS);
    }

    @Override
    public void subscribe(String filter, int qos) throws Exception {
        await(client.subscribeWith().topicFilter(filter).qos(MqttQos.fromCode(qos)).send());
    }

    @Override
    public void publish(String topic, String payload, int qos, boolean retain) throws Exception {
        await(client.publishWith().topic(topic).payload(payload.getBytes())
                .qos(MqttQos.fromCode(qos)).retain(retain).send());
    }

    @Override
    public BlockingQueue<String> messages() {
        return messages;
    }

    @Override
    public boolean sessionPresent() {
        return present;
    }

    @Override
    public void disconnect() throws Exception {
        await(client.disconnect());
    }

    @Override
    public void drop() throws Exception {
        await(client.disconnectWith()
                .reasonCode(Mqtt5DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE).send());
    }
}
