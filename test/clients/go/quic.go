package main

import (
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	quic "github.com/quic-go/quic-go"
)

// quicConn is a QUIC connection with its one stream, as paho.golang wants it.
type quicConn struct {
	quicStream
	local, remote net.Addr
	ended         <-chan struct{}
	abandon       func() error
}

// quicStream is what is needed of the stream, whose type differs among the versions of quic-go.
type quicStream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

func (c quicConn) LocalAddr() net.Addr  { return c.local }
func (c quicConn) RemoteAddr() net.Addr { return c.remote }

// Close ends the stream behind what was written, upon which the server ends the connection; to
// close the connection at once could overtake a DISCONNECT.
func (c quicConn) Close() error {
	if err := c.quicStream.Close(); err != nil {
		return err
	}
	select {
	case <-c.ended:
		return nil
	case <-time.After(timeout):
		return c.abandon()
	}
}

// dialQUIC connects by quic-go, which trusts what the system trusts (SSL_CERT_FILE).
func dialQUIC(address string) (net.Conn, error) {
	ctx, cancel := within()
	defer cancel()
	config := &tls.Config{NextProtos: []string{"mqtt"}, MinVersion: tls.VersionTLS13}
	conn, err := quic.DialAddr(ctx, address, config, nil)
	if err != nil {
		return nil, err
	}
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return packets.NewThreadSafeConn(quicConn{
		stream, conn.LocalAddr(), conn.RemoteAddr(), conn.Context().Done(),
		func() error { return conn.CloseWithError(0, "") },
	}), nil
}
