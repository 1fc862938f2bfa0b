// An aedes server for the benchmark: main.js PORT [FOLDER]. With a folder it keeps its state there.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const [port, folder] = process.argv.slice(2)

async function persistence () {
  if (!folder) return undefined
  const { Level } = await import('level')
  const { default: aedesPersistenceLevel } = await import('aedes-persistence-level')
  return aedesPersistenceLevel(new Level(folder))
}

const broker = await Aedes.createBroker({
  persistence: await persistence(),
  queueLimit: 1000000,
  maxClientsIdLength: 128
})
const server = createServer({ noDelay: true, backlog: 4096 }, broker.handle)
server.listen(Number(port), '127.0.0.1')
process.on('SIGTERM', () => {
  server.close()
  broker.close(() => process.exit(0))
})
