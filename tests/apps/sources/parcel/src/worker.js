onmessage = (event) => postMessage(`doubled ${event.data * 2}`);
