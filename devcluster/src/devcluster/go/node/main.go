// Command node is the one program in devcluster's pause image. It has two jobs:
//
//	node pause                   holds a pod's namespaces and reaps orphans (the sandbox)
//	node probe HOST PORT SECONDS resolves HOST by the pod's own resolver and opens a
//	                             connection to it, trying until SECONDS have passed
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 5 && os.Args[1] == "probe" {
		seconds, err := strconv.Atoi(os.Args[4])
		if err != nil {
			fmt.Fprintln(os.Stderr, "SECONDS is not a number:", os.Args[4])
			os.Exit(2)
		}
		probe(os.Args[2], os.Args[3], time.Duration(seconds)*time.Second)
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "pause" {
		pause()
		return
	}
	fmt.Fprintln(os.Stderr, "usage: node pause | node probe HOST PORT SECONDS")
	os.Exit(2)
}

// pause waits for a stop signal and reaps children: in a pod that shares its
// process namespace it is process 1.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
}

func probe(host, port string, limit time.Duration) {
	deadline := time.Now().Add(limit)
	for {
		err := connect(host, port)
		if err == nil {
			fmt.Println("reached", net.JoinHostPort(host, port))
			return
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "not reached:", err)
			os.Exit(1)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// connect allows two seconds: an unanswered DNS question would otherwise
// wait for the resolver's own five.
func connect(host, port string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	resolver := net.Resolver{PreferGo: true}
	addresses, err := resolver.LookupHost(ctx, host)
	if err != nil {
		return err
	}
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(addresses[0], port))
	if err != nil {
		return err
	}
	return connection.Close()
}
