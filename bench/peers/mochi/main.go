// A mochi-mqtt server for the benchmark: peer PORT [FOLDER]. With a folder it keeps its state there.
package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/hooks/storage/badger"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) < 2 {
		check(fmt.Errorf("usage: peer PORT [FOLDER]"))
	}
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumInflight = 65535
	limits.ReceiveMaximum = 65535
	limits.MaximumClientWritesPending = 16384
	server := mqtt.New(&mqtt.Options{
		Capabilities: limits,
		Logger:       slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	check(server.AddHook(new(auth.AllowHook), nil))
	if len(os.Args) > 2 {
		check(server.AddHook(new(badger.Hook), &badger.Options{Path: os.Args[2]}))
	}
	check(server.AddListener(listeners.NewTCP(listeners.Config{
		ID: "bench", Address: "127.0.0.1:" + os.Args[1]})))
	check(server.Serve())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	check(server.Close())
}
