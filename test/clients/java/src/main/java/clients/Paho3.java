package clients;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.MqttCallback;
import org.eclipse.paho.client.mqttv3.MqttClient;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

/** Eclipse Paho for MQTT 3.1.1. */
final class Paho3 implements Features.Connection, MqttCallback {
    private final BlockingQueue<String> messages = new LinkedBlockingQueue<>();
    private final MqttClient client;
    private final boolean present;

    Paho3(int port, String id, boolean clean, String willTopic) throws Exception {
        client = new MqttClient("tcp://127.0.0.1:" + port, id, new MemoryPersistence());
        client.setCallback(this);
        client.setTimeToWait(20000);
        MqttConnectOptions options = new MqttConnectOptions();
        options.setMqttVersion(MqttConnectOptions.MQTT_VERSION_3_1_1);
        options.setCleanSession(clean);
        if (willTopic != null) {
            options.setWill(willTopic, "gone".getBytes(), 1, false);
        }
        present = client.connectWithResult(options).getSessionPresent();
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
    public void connectionLost(Throwable cause) {
    }

    @Override
    public void deliveryComplete(IMqttDeliveryToken token) {
    }
}
