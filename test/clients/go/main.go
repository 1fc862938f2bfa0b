// What paho.golang (MQTT 5.0) is asked to do. usage: clients mqtt|quic PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

const (
	timeout = 20 * time.Second
	shares  = 20
)

// server is what clients connect to, and by what.
type server struct{ scheme, port string }

func (s server) dial() (net.Conn, error) {
	if s.scheme == "quic" {
		return dialQUIC("127.0.0.1:" + s.port)
	}
	return net.Dial("tcp", "127.0.0.1:"+s.port)
}

// prefix is the start of all names, since both ways of connecting meet the same server.
func (s server) prefix() string { return "go-paho5-" + s.scheme }

type connection struct {
	client   *paho.Client
	socket   net.Conn
	messages chan string
	present  bool
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), timeout)
}

func open(to server, id string, clean bool, willTopic string) (*connection, error) {
	socket, err := to.dial()
	if err != nil {
		return nil, err
	}
	c := &connection{socket: socket, messages: make(chan string, 100)}
	c.client = paho.NewClient(paho.ClientConfig{
		Conn: socket,
		Router: paho.NewSingleHandlerRouter(func(m *paho.Publish) {
			c.messages <- fmt.Sprintf("%d %t %s", m.QoS, m.Retain, m.Payload)
		}),
		OnClientError:      func(error) {},
		OnServerDisconnect: func(*paho.Disconnect) {},
	})
	expiry := uint32(600)
	if clean {
		expiry = 0
	}
	connect := &paho.Connect{
		ClientID:   to.prefix() + "-" + id,
		CleanStart: clean,
		KeepAlive:  60,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry},
	}
	if willTopic != "" {
		connect.WillMessage = &paho.WillMessage{Topic: willTopic, Payload: []byte("gone"), QoS: 1}
		connect.WillProperties = &paho.WillProperties{}
	}
	ctx, cancel := within()
	defer cancel()
	answer, err := c.client.Connect(ctx, connect)
	if err != nil {
		return nil, err
	}
	c.present = answer.SessionPresent
	return c, nil
}

func (c *connection) subscribe(filter string, qos byte) error {
	ctx, cancel := within()
	defer cancel()
	_, err := c.client.Subscribe(ctx, &paho.Subscribe{
		Subscriptions: map[string]paho.SubscribeOptions{filter: {QoS: qos}},
	})
	return err
}

func (c *connection) publish(topic, payload string, qos byte, retain bool) error {
	ctx, cancel := within()
	defer cancel()
	_, err := c.client.Publish(ctx, &paho.Publish{
		Topic: topic, Payload: []byte(payload), QoS: qos, Retain: retain,
	})
	return err
}

func (c *connection) expect(wanted ...string) error {
	found := []string{}
	for range wanted {
		select {
		case message := <-c.messages:
			found = append(found, message)
		case <-time.After(timeout):
			return fmt.Errorf("wanted %q, got %q", wanted, found)
		}
	}
	if strings.Join(found, "\n") != strings.Join(wanted, "\n") {
		return fmt.Errorf("wanted %q, got %q", wanted, found)
	}
	return nil
}

func (c *connection) close() error {
	return c.client.Disconnect(&paho.Disconnect{ReasonCode: 0})
}

// all runs the steps until one fails.
func all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func connect(to server) error {
	one, err := open(to, "connect", true, "")
	if err != nil {
		return err
	}
	if one.present {
		return errors.New("session present after a clean start")
	}
	return one.close()
}

func eachQoS(qos byte) func(server) error {
	return func(to server) error {
		topic := fmt.Sprintf("%s/qos%d", to.prefix(), qos)
		one, err := open(to, fmt.Sprintf("qos%d", qos), true, "")
		if err != nil {
			return err
		}
		if err := one.subscribe(topic, qos); err != nil {
			return err
		}
		wanted := []string{}
		for n := 0; n < 5; n++ {
			if err := one.publish(topic, fmt.Sprintf("m%d", n), qos, false); err != nil {
				return err
			}
			wanted = append(wanted, fmt.Sprintf("%d false m%d", qos, n))
		}
		return all(func() error { return one.expect(wanted...) }, one.close)
	}
}

func session(to server) error {
	away, err := open(to, "away", false, "")
	if err != nil {
		return err
	}
	other, err := open(to, "other", true, "")
	if err != nil {
		return err
	}
	err = all(
		func() error { return away.subscribe(to.prefix()+"/session", 2) },
		away.close,
		func() error { return other.publish(to.prefix()+"/session", "one", 1, false) },
		func() error { return other.publish(to.prefix()+"/session", "three", 1, false) },
		other.close,
	)
	if err != nil {
		return err
	}
	if away, err = open(to, "away", false, ""); err != nil {
		return err
	}
	if !away.present {
		return errors.New("no session present")
	}
	return all(func() error { return away.expect("1 false one", "1 false three") }, away.close)
}

func retained(to server) error {
	one, err := open(to, "retained", true, "")
	if err != nil {
		return err
	}
	topic := to.prefix() + "/retained"
	return all(
		func() error { return one.publish(topic, "kept", 1, true) },
		func() error { return one.subscribe(topic, 1) },
		// This version of the library does not hand on the flag; that it comes at all shows it is kept.
		func() error { return one.expect("1 false kept") },
		func() error { return one.publish(topic, "", 1, true) },
		func() error { return one.expect("1 false ") },
		one.close,
	)
}

func will(to server) error {
	witness, err := open(to, "witness", true, "")
	if err != nil {
		return err
	}
	if err := witness.subscribe(to.prefix()+"/will", 1); err != nil {
		return err
	}
	mortal, err := open(to, "mortal", true, to.prefix()+"/will")
	if err != nil {
		return err
	}
	return all(mortal.socket.Close, func() error { return witness.expect("1 false gone") }, witness.close)
}

func shared(to server) error {
	members := []*connection{}
	for _, id := range []string{"first", "second"} {
		member, err := open(to, id, true, "")
		if err != nil {
			return err
		}
		if err := member.subscribe("$share/group/"+to.prefix()+"/shared", 1); err != nil {
			return err
		}
		members = append(members, member)
	}
	publisher, err := open(to, "publisher", true, "")
	if err != nil {
		return err
	}
	found, wanted := []string{}, []string{}
	for n := 0; n < shares; n++ {
		if err := publisher.publish(to.prefix()+"/shared", fmt.Sprintf("m%d", n), 1, false); err != nil {
			return err
		}
		wanted = append(wanted, fmt.Sprintf("1 false m%d", n))
	}
	for len(found) < shares {
		select {
		case message := <-members[0].messages:
			found = append(found, message)
		case message := <-members[1].messages:
			found = append(found, message)
		case <-time.After(timeout):
			return fmt.Errorf("only %q arrived", found)
		}
	}
	sort.Strings(found)
	sort.Strings(wanted)
	if strings.Join(found, "\n") != strings.Join(wanted, "\n") {
		return fmt.Errorf("wanted %q, got %q", wanted, found)
	}
	return all(members[0].close, members[1].close, publisher.close)
}

func main() {
	to := server{os.Args[1], os.Args[2]}
	features := []struct {
		name string
		run  func(server) error
	}{
		{"connect", connect}, {"qos0", eachQoS(0)}, {"qos1", eachQoS(1)}, {"qos2", eachQoS(2)},
		{"session", session}, {"retained", retained}, {"will", will}, {"shared", shared},
	}
	for _, feature := range features {
		if err := feature.run(to); err != nil {
			fmt.Println("not ok", feature.name, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok", feature.name)
		}
	}
}
