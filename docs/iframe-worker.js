// Search on pages that are read from the disk: browsers start no worker from a file:// page, so its script runs in a
// hidden frame that answers as a worker does. Material's `offline` plugin looks for this name and then loads nothing
// from elsewhere; its search asks for `IFrameWorker` in the parent.
if (location.protocol === "file:") {
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.frame = frame;
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = (...urls) => urls.reduce((before, one) => before.then(() => load(frame, one)), Promise.resolve());
      this.ready = load(frame, url);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  }

  function load(frame, url) {
    return new Promise((loaded, failed) => {
      const script = frame.contentDocument.createElement("script");
      script.src = url;
      script.onload = loaded;
      script.onerror = () => failed(new Error(`no script at ${url}`));
      frame.contentDocument.body.appendChild(script);
    });
  }

  window.IFrameWorker = window.Worker = IFrameWorker;
}
