package clients;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttClient;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/** Eclipse Paho for MQTT 5.0. */
final class Paho5 implements Features.Connection, MqttCallback {
    private final BlockingQueue<String> messages = new LinkedBlockingQueue<>();
    private final MqttClient client;
    private final boolean present;

    Paho5(int port, String id, boolean clean, String willTopic) throws Exception {
        client = new MqttClient("tcp://127.0.0.1:" + port, id, new MemoryPersistence());
        client.setCallback(this);
        client.setTimeToWait(20000);
        MqttConnectionOptions options = new MqttConnectionOptions();
        options.setCleanStart(clean);
        options.setSessionExpiryInterval(clean ? 0L : 600L);
        if (willTopic != null) {
            MqttMessage will = new MqttMessage("gone".getBytes());
            will.setQos(1);
            options.setWill(willTopic, will);
        }
        IMqttToken token = client.connectWithResult(options);
        present = token.getSessionPresent();
    }

    @Override
    public void subscribe(String filter, int qos) throws Exception {
        client.subscribe(filter, qos);
    }

    @Override
    public void publish(String topic, String payload, int qos, boolean retain) throws Exception {
        client.publish(topic, payload.getBytes(), qos, retain);
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
        client.disconnect();
        client.close();
    }

    @Override
    public void drop() throws Exception {
        client.disconnectForcibly(0, 1, false);
    }

    @Override
    public void messageArrived(String topic, MqttMessage message) {
        messages.add(Features.describe(message.getQos(), message.isRetained(), message.getPayload()));
    }

    @Override
    public void disconnected(MqttDisconnectResponse response) {
    }

    @Override
    public void mqttErrorOccurred(MqttException exception) {
    }

    @Override
    public void deliveryComplete(IMqttToken token) {
    }

    @Override
    public void connectComplete(boolean reconnect, String uri) {
    }

    @Override
    public void authPacketArrived(int reason, MqttProperties properties) {
    }
}
