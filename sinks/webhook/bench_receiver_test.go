//go:build unix

package webhook

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// receiverEnv makes a receiver of the test's binary: in a process of its own, its CPU is not counted as ours.
const receiverEnv = "POSTRIDER_TEST_RECEIVER"

// wires are how the receiver is reached, in the order in which it tells its URLs.
var wires = []string{"http", "tls-h1", "tls-h2"}

// beReceiver answers each request at once, until its standard input ends. For each line of that it says what it has used up.
func beReceiver() {
	pair, err := benchCertificate()
	if err != nil {
		log.Fatal(err)
	}
	for _, wire := range wires {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(answerBench), Protocols: new(http.Protocols), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetHTTP2(wire == "tls-h2")
		if wire == "http" {
			fmt.Printf("http://%s ", l.Addr())
			go func() { log.Fatal(s.Serve(l)) }()
			continue
		}
		fmt.Printf("https://%s ", l.Addr())
		go func() { log.Fatal(s.ServeTLS(l, "", "")) }()
	}
	fmt.Println()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(int64(cpuTime()))
	}
	os.Exit(0)
}

func answerBench(w http.ResponseWriter, req *http.Request) {
	_, _ = io.Copy(io.Discard, req.Body)
	w.WriteHeader(http.StatusNoContent)
}

func benchCertificate() (c tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// benchReceiver is a receiver in another process.
type benchReceiver struct {
	b    *testing.B
	urls []string // of wires
	in   io.Writer
	out  *bufio.Reader
}

func startReceiver(b *testing.B) *benchReceiver {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), receiverEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	r := &benchReceiver{b: b, in: in, out: bufio.NewReader(out)}
	r.urls = strings.Fields(r.line())
	return r
}

func (r *benchReceiver) line() string {
	text, err := r.out.ReadString('\n')
	if err != nil {
		r.b.Fatal(err)
	}
	return text
}

// cpu is what the receiver has used up.
func (r *benchReceiver) cpu() (used time.Duration) {
	if _, err := io.WriteString(r.in, "\n"); err != nil {
		r.b.Fatal(err)
	}
	if _, err := fmt.Sscan(r.line(), (*int64)(&used)); err != nil {
		r.b.Fatal(err)
	}
	return used
}
