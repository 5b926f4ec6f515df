// A fifth implementation, written from the kit's README: F# and its own library, no packages.
//
//     dotnet fsi port.fsx KIT ANSWERS [CHECK ...]
//
// reads KIT/networks.json and KIT/CHECK.safetensors, and writes ANSWERS/CHECK.safetensors, for all checks if none is
// named. Everything is worked out in double precision. The same script, compiled to JavaScript by Fable, runs under
// Node.js; the few lines that differ there stand between #if and #endif.

open System

// ---- Files ----

#if FABLE_COMPILER
open Fable.Core

[<Import("readFileSync", "fs")>]
let private readFileSync (path: string) : byte[] = jsNative

[<Import("writeFileSync", "fs")>]
let private writeFile (path: string) (bytes: byte[]) : unit = jsNative

[<Emit("new Uint8Array($0)")>] // Node's own kind of array shares its memory with others
let private copied (bytes: byte[]) : byte[] = jsNative

[<Emit("process.argv.slice(2)")>]
let private arguments () : string[] = jsNative

let private readFile path = copied (readFileSync path)
#else
let private readFile (path: string) = IO.File.ReadAllBytes path
let private writeFile (path: string) (bytes: byte[]) = IO.File.WriteAllBytes(path, bytes)
let private arguments () = Array.tail fsi.CommandLineArgs
#endif

/// Numbers at a place in some bytes, little endian. The types are written out because Fable converts by them.
let private singleAt (bytes: byte[]) at : float32 = BitConverter.ToSingle(bytes, at)
let private doubleAt (bytes: byte[]) at : float = BitConverter.ToDouble(bytes, at)
let private int32At (bytes: byte[]) at : int32 = BitConverter.ToInt32(bytes, at)
let private int64At (bytes: byte[]) at : int64 = BitConverter.ToInt64(bytes, at)
let private uint32At (bytes: byte[]) at : uint32 = BitConverter.ToUInt32(bytes, at)
let private uint64At (bytes: byte[]) at : uint64 = BitConverter.ToUInt64(bytes, at)

/// As much of JSON as headers and networks are made of; strings without escapes.
type Json =
    | Text of string
    | Number of float
    | List of Json list
    | Object of (string * Json) list
    | Word of string // true, false, null

let parseJson (text: string) : Json =
    let mutable at = 0

    let skipSpace () =
        while at < text.Length && Char.IsWhiteSpace text.[at] do
            at <- at + 1

    let follows (symbol: char) =
        skipSpace ()
        let found = at < text.Length && text.[at] = symbol
        if found then at <- at + 1
        found

    let expect symbol =
        if not (follows symbol) then failwithf "no %c at character %d of the JSON" symbol at

    let takeWhile (wanted: char -> bool) =
        let first = at

        while at < text.Length && wanted text.[at] do
            at <- at + 1

        text.Substring(first, at - first)

    let quoted () =
        expect '"'
        let inside = takeWhile (fun c -> c <> '"')
        expect '"'
        inside

    let rec until close item =
        if follows close then
            []
        else
            let first = item ()
            follows ',' |> ignore
            first :: until close item

    let rec value () =
        skipSpace ()

        if follows '{' then Object(until '}' entry)
        elif follows '[' then List(until ']' value)
        elif at < text.Length && text.[at] = '"' then Text(quoted ())
        else
            let word = takeWhile (fun c -> Char.IsLetterOrDigit c || c = '-' || c = '+' || c = '.')
            if word = "" then failwithf "no value at character %d of the JSON" at
            if Char.IsLetter word.[0] then Word word else Number(float word)

    and entry () =
        let key = quoted ()
        expect ':'
        key, value ()

    value ()

/// An array as it lies in a safetensors file.
type Stored =
    { Name: string
      Type: string
      Shape: int[]
      Bytes: byte[] }

let private count (shape: int[]) = Array.fold (*) 1 shape

let private real =
    function
    | Number value -> value
    | other -> failwithf "%A is not a number" other

let private whole number = int (real number)

let private field name entries =
    match List.tryFind (fun (key, _) -> key = name) entries with
    | Some(_, value) -> value
    | None -> failwithf "the JSON lacks %s" name

let private readJson (bytes: byte[]) = parseJson (Text.Encoding.UTF8.GetString bytes)

type File = Map<string, Stored>

let load folder name : File =
    let bytes = readFile (sprintf "%s/%s.safetensors" folder name)
    let start = 8 + int (uint64At bytes 0)

    let stored (name, facts) =
        match facts with
        | Object entries when name <> "__metadata__" ->
            match field "dtype" entries, field "shape" entries, field "data_offsets" entries with
            | Text kind, List shape, List [ first; last ] ->
                let size = whole last - whole first
                let shape = shape |> List.map whole |> Array.ofList
                Some(name, { Name = name; Type = kind; Shape = shape; Bytes = Array.sub bytes (start + whole first) size })
            | _ -> failwithf "the header of %s is damaged" name
        | _ -> None

    match readJson (Array.sub bytes 8 (start - 8)) with
    | Object entries -> entries |> List.choose stored |> Map.ofList
    | _ -> failwithf "%s has no header" name

let find (file: File) name : Stored =
    match Map.tryFind name file with
    | Some stored -> stored
    | None -> failwithf "there is no array %s" name

/// Numbers of any type as floats, which hold all but the hashes and seeds of 64 bits.
let floats file name : float[] =
    let stored = find file name
    let bytes = stored.Bytes

    let number =
        match stored.Type with
        | "F64" -> fun i -> doubleAt bytes (8 * i)
        | "F32" -> fun i -> float (singleAt bytes (4 * i))
        | "I64" -> fun i -> float (int64At bytes (8 * i))
        | "I32" -> fun i -> float (int32At bytes (4 * i))
        | "U32" -> fun i -> float (uint32At bytes (4 * i))
        | "U8" -> fun i -> float bytes.[i]
        | other -> failwithf "%s holds numbers of the type %s" name other

    Array.init (count stored.Shape) number

let ints file name : int[] = Array.map int (floats file name)
let words file name : uint32[] = Array.map uint32 (floats file name)
let number file name = (floats file name).[0]
let integer file name = int (number file name)

/// Unsigned numbers of 64 bits.
let longs file name : uint64[] =
    let stored = find file name
    Array.init (count stored.Shape) (fun i -> uint64At stored.Bytes (8 * i))

let private store kind (toBytes: 'a -> byte[]) name shape (values: 'a[]) =
    { Name = name
      Type = kind
      Shape = Array.ofList shape
      Bytes = Array.concat (Array.map toBytes values) }

let putFloats name shape values = store "F64" (fun (x: float) -> BitConverter.GetBytes x) name shape values
let putSingles name shape values = store "F32" (fun (x: float) -> BitConverter.GetBytes(float32 x)) name shape values
let putInts name shape values = store "I32" (fun (x: int) -> BitConverter.GetBytes x) name shape values
let putWords name shape values = store "U32" (fun (x: uint32) -> BitConverter.GetBytes x) name shape values
let putLongs name shape values = store "U64" (fun (x: uint64) -> BitConverter.GetBytes x) name shape values
let putFlags name shape values = store "U8" (fun kept -> [| (if kept then 1uy else 0uy) |]) name shape values

let save folder name (arrays: Stored list) =
    let ends = arrays |> List.scan (fun last stored -> last + stored.Bytes.Length) 0
    let quote text = "\"" + text + "\""

    let entry (first, stored) =
        let shape = stored.Shape |> Array.map string |> String.concat ","
        let last = first + stored.Bytes.Length

        sprintf "%s:{\"dtype\":%s,\"shape\":[%s],\"data_offsets\":[%d,%d]}" (quote stored.Name) (quote stored.Type) shape first last

    let entries = List.map entry (List.zip (List.take arrays.Length ends) arrays)
    let header = "{" + String.concat "," entries + "}"
    let header = header.PadRight((header.Length + 7) / 8 * 8)

    Array.concat
        [ BitConverter.GetBytes(uint64 header.Length)
          Text.Encoding.UTF8.GetBytes header
          Array.concat (arrays |> List.map (fun stored -> stored.Bytes)) ]
    |> writeFile (sprintf "%s/%s.safetensors" folder name)

// ---- 1. Random numbers ----

/// Two words of 32 bits: a key, a counter, or what they give.
type Words = { First: uint32; Second: uint32 }

/// Addition modulo 2^32. The mask changes nothing in .NET; JavaScript's numbers do not wrap around by themselves.
let inline private (+.) (a: uint32) (b: uint32) = (a + b) &&& 0xFFFFFFFFu

let private rotateLeft (word: uint32) bits = (word <<< bits) ||| (word >>> (32 - bits))

let private rotations = [| [| 13; 15; 26; 6 |]; [| 17; 29; 16; 24 |] |]

/// Threefry-2x32 with 20 rounds (Salmon et al. 2011).
let threefry (key: Words) (counter: Words) : Words =
    let keys = [| key.First; key.Second; key.First ^^^ key.Second ^^^ 0x1BD11BDAu |]
    let mutable x = counter.First +. keys.[0]
    let mutable y = counter.Second +. keys.[1]

    for group in 0 .. 4 do
        for bits in rotations.[group % 2] do
            x <- x +. y
            y <- rotateLeft y bits ^^^ x

        x <- x +. keys.[(group + 1) % 3]
        y <- y +. keys.[(group + 2) % 3] +. uint32 (group + 1)

    { First = x; Second = y }

type Purpose =
    | Weights = 0
    | Order = 1
    | Zoom = 2
    | View = 3
    | Dropout = 4

let private purposes = 15

let private halves (value: uint64) = { First = uint32 (value >>> 32); Second = uint32 value }

let purposeKey (seed: uint64) (purpose: int) = threefry (halves seed) { First = 0u; Second = uint32 purpose }
let galaxyKey seed purpose (hash: uint64) = threefry (purposeKey seed purpose) (halves hash)

/// Word number `i` under a key at an index (a step of training or a sample of the posterior).
let word key index (i: int) =
    let two = threefry key { First = index; Second = uint32 (i / 2) }
    if i % 2 = 0 then two.First else two.Second

let uniform key index i = float (word key index i >>> 8) / 16777216.0

/// Which of `units` units dropout keeps.
let mask key index units (rate: float) : bool[] =
    let least = uint32 (round (rate * 16777216.0))
    Array.init units (fun unit -> word key index unit >>> 8 >= least)

let private keyOf (keys: uint32[]) i = { First = keys.[2 * i]; Second = keys.[2 * i + 1] }
let private flat (keys: Words[]) = keys |> Array.collect (fun key -> [| key.First; key.Second |])

let private blakeStart =
    [| 0x6a09e667f3bcc908UL; 0xbb67ae8584caa73bUL; 0x3c6ef372fe94f82bUL; 0xa54ff53a5f1d36f1UL
       0x510e527fade682d1UL; 0x9b05688c2b3e6c1fUL; 0x1f83d9abfb41bd6bUL; 0x5be0cd19137e2179UL |]

let private blakeOrder =
    [| [| 0; 1; 2; 3; 4; 5; 6; 7; 8; 9; 10; 11; 12; 13; 14; 15 |]
       [| 14; 10; 4; 8; 9; 15; 13; 6; 1; 12; 0; 2; 11; 7; 5; 3 |]
       [| 11; 8; 12; 0; 5; 2; 15; 13; 10; 14; 3; 6; 7; 1; 9; 4 |]
       [| 7; 9; 3; 1; 13; 12; 11; 14; 2; 6; 5; 10; 4; 0; 15; 8 |]
       [| 9; 0; 5; 7; 2; 4; 10; 15; 14; 1; 11; 12; 6; 8; 3; 13 |]
       [| 2; 12; 6; 10; 0; 11; 8; 3; 4; 13; 7; 5; 15; 14; 1; 9 |]
       [| 12; 5; 1; 15; 14; 13; 4; 10; 0; 7; 6; 3; 9; 2; 8; 11 |]
       [| 13; 11; 7; 14; 12; 1; 3; 9; 5; 0; 15; 4; 8; 6; 2; 10 |]
       [| 6; 15; 14; 9; 11; 3; 0; 8; 12; 2; 13; 7; 1; 4; 10; 5 |]
       [| 10; 2; 8; 4; 7; 6; 1; 5; 15; 11; 9; 14; 3; 12; 13; 0 |] |]

/// Columns, then diagonals, of the square of sixteen words.
let private blakeQuarters =
    [| 0, 4, 8, 12; 1, 5, 9, 13; 2, 6, 10, 14; 3, 7, 11, 15; 0, 5, 10, 15; 1, 6, 11, 12; 2, 7, 8, 13; 3, 4, 9, 14 |]

let private rotateRight (value: uint64) bits = (value >>> bits) ||| (value <<< (64 - bits))

/// BLAKE2b (RFC 7693), unkeyed, with a digest of 8 bytes read as a little-endian number.
let blake2b (message: byte[]) : uint64 =
    let state = Array.copy blakeStart
    state.[0] <- state.[0] ^^^ 0x01010008UL
    let blocks = max 1 ((message.Length + 127) / 128)

    for block in 0 .. blocks - 1 do
        let size = min 128 (message.Length - 128 * block)
        let padded = Array.append (Array.sub message (128 * block) size) (Array.create (128 - size) 0uy)
        let m = Array.init 16 (fun i -> uint64At padded (8 * i))
        let v = Array.append state blakeStart
        v.[12] <- v.[12] ^^^ uint64 (128 * block + size)
        if block = blocks - 1 then v.[14] <- ~~~v.[14]

        let mix x (a, b, c, d) first second =
            v.[a] <- v.[a] + v.[b] + x
            v.[d] <- rotateRight (v.[d] ^^^ v.[a]) first
            v.[c] <- v.[c] + v.[d]
            v.[b] <- rotateRight (v.[b] ^^^ v.[c]) second

        for round in 0 .. 11 do
            let order = blakeOrder.[round % 10]

            for i in 0 .. 7 do
                mix m.[order.[2 * i]] blakeQuarters.[i] 32 24
                mix m.[order.[2 * i + 1]] blakeQuarters.[i] 16 63

        for i in 0 .. 7 do
            state.[i] <- state.[i] ^^^ v.[i] ^^^ v.[i + 8]

    state.[0]

/// The galaxies' places in the order of the epoch that begins at a step.
let epochOrder seed (hashes: uint64[]) (step: int) : int[] =
    let rank place =
        let key = galaxyKey seed (int Purpose.Order) hashes.[place]
        word key (uint32 step) 0, word key (uint32 step) 1, hashes.[place]

    Array.sortBy rank [| 0 .. hashes.Length - 1 |]

/// How a galaxy is seen: where each pixel is sampled (2 x 3), the crop (corner and width), brightness and contrast.
type View =
    { Affine: float[]
      Crop: int[]
      Light: float[] }

/// What views are drawn from.
type Augmentation =
    { Stored: float // pixels across the stored image
      Size: float // pixels across the network's
      Share: float // of the stored image that zoom 1 shows
      Zoom: float[]
      Brightness: float
      Contrast: float[] }

let private between (bounds: float[]) u = bounds.[0] + (bounds.[1] - bounds.[0]) * u

let private rotation angle (flip: float[]) =
    [| cos angle * flip.[0]; -(sin angle) * flip.[1]; sin angle * flip.[0]; cos angle * flip.[1] |]

let private affine (spec: Augmentation) (r: float[]) scale (start: float[]) =
    let centre = (spec.Stored - 1.0) / 2.0

    [| for row in [ 0; 2 ] do
           yield r.[row] * scale
           yield r.[row + 1] * scale
           yield centre + r.[row] * start.[0] + r.[row + 1] * start.[1] |]

let bilinearView spec zoom angle flip (shift: float[]) light =
    let field = spec.Share * spec.Stored
    let width = field / zoom
    let scale = width / spec.Size
    let start = shift |> Array.map (fun s -> (s - 0.5) * (field - width) - (spec.Size - 1.0) / 2.0 * scale)

    { Affine = affine spec (rotation angle flip) scale start
      Crop = [| 0; 0; int spec.Size |]
      Light = light }

let nearestView spec zoom angle flip (shift: float[]) light =
    let field = round (spec.Share * spec.Stored)
    let width = floor (field / zoom)
    let start = -(field - 1.0) / 2.0
    let corner s = int (min (floor (s * (field - width + 1.0))) (field - width))

    { Affine = affine spec (rotation angle flip) 1.0 [| start; start |]
      Crop = [| corner shift.[0]; corner shift.[1]; int width |]
      Light = light }

let stillView spec =
    bilinearView spec ((spec.Zoom.[0] + spec.Zoom.[1]) / 2.0) 0.0 [| 1.0; 1.0 |] [| 0.5; 0.5 |] [| 0.0; 1.0 |]

/// The bilinear and the nearest view of a galaxy at a step.
let drawViews spec seed hash (step: int) =
    let key = galaxyKey seed (int Purpose.View) hash
    let u = Array.init 8 (uniform key (uint32 step))
    let shared = uniform (purposeKey seed (int Purpose.Zoom)) (uint32 (step / 15)) 0
    let flip = Array.map (fun v -> if v < 0.5 then -1.0 else 1.0) u.[2..3]
    let light = [| (2.0 * u.[6] - 1.0) * spec.Brightness; between spec.Contrast u.[7] |]

    bilinearView spec (between spec.Zoom u.[0]) (2.0 * Math.PI * u.[1]) flip u.[4..5] light,
    nearestView spec (between spec.Zoom shared) (Math.PI * u.[1]) flip u.[4..5] light

let private putViews name shape (views: View[]) =
    [ putSingles (name + "/turn") (shape @ [ 2; 3 ]) (views |> Array.collect (fun view -> view.Affine))
      putInts (name + "/window") (shape @ [ 3 ]) (views |> Array.collect (fun view -> view.Crop))
      putSingles (name + "/light") (shape @ [ 2 ]) (views |> Array.collect (fun view -> view.Light)) ]

// ---- 2. What the network is shown ----

/// Numbers with a shape; the last axis runs fastest. Images are (y, x, channel).
type Tensor = { Shape: int[]; Values: float[] }

type Border =
    | Edge
    | Zero

/// A square image of `size` x `size` pixels as the network is shown it.
let apply (view: View) border scale (size: int) (image: Tensor) : Tensor =
    let last = image.Shape.[0] - 1
    let t = view.Affine

    let pixel row column =
        if border = Zero && (row < 0 || row > last || column < 0 || column > last) then
            0.0
        else
            image.Values.[(row |> max 0 |> min last) * (last + 1) + (column |> max 0 |> min last)]

    let sample i =
        let q0 = float (view.Crop.[0] + i / size * view.Crop.[2] / size)
        let q1 = float (view.Crop.[1] + i % size * view.Crop.[2] / size)
        let row = t.[0] * q0 + t.[1] * q1 + t.[2]
        let column = t.[3] * q0 + t.[4] * q1 + t.[5]
        let a, b = row - floor row, column - floor column
        let top, left = int (floor row), int (floor column)
        let upper = (1.0 - b) * pixel top left + b * pixel top (left + 1)
        let lower = (1.0 - b) * pixel (top + 1) left + b * pixel (top + 1) (left + 1)
        ((1.0 - a) * upper + a * lower) / scale

    let sampled = Array.init (size * size) sample
    let mean = Array.average sampled
    let relit = sampled |> Array.map (fun x -> (x - mean) * view.Light.[1] + mean + view.Light.[0])
    { Shape = [| size; size; 1 |]; Values = relit }

/// Tensors along the first axis of an array.
let private rows file name : Tensor[] =
    let shape = (find file name).Shape
    let values = floats file name
    let size = values.Length / shape.[0]
    Array.init shape.[0] (fun i -> { Shape = shape.[1..]; Values = Array.sub values (i * size) size })

let private views file prefix : View[] =
    let affine, crop, light = floats file (prefix + "turn"), ints file (prefix + "window"), floats file (prefix + "light")

    Array.init (crop.Length / 3) (fun i ->
        { Affine = Array.sub affine (6 * i) 6
          Crop = Array.sub crop (3 * i) 3
          Light = Array.sub light (2 * i) 2 })

// ---- 3. The network: a list of layers ----

type Operation =
    | Conv of filters: int // 3 x 3, one pixel of zeros around
    | Relu
    | MaxPool // 2 x 2
    | Flatten
    | Dense of units: int
    | Dropout of rate: float

type Layer =
    { Name: string
      Operation: Operation
      Input: string }

type Network = Layer list
type Parameters = Map<string, Tensor>

/// The two parts of a network, which meet at a layer called units.
type Model =
    { ImageShape: int[] // y, x, channel
      Encoder: Network
      Head: Network }

let private readLayer =
    function
    | Object entries ->
        let setting name = whole (field name entries)
        let settings names = List.map setting names

        let operation =
            match field "operation" entries with
            | Text "Conv" when settings [ "kernel"; "stride"; "padding"; "groups" ] = [ 3; 1; 1; 1 ] -> Conv(setting "filters")
            | Text "Relu" -> Relu
            | Text "MaxPool" when settings [ "kernel"; "stride"; "padding" ] = [ 2; 2; 0 ] -> MaxPool
            | Text "Flatten" -> Flatten
            | Text "Dense" -> Dense(setting "units")
            | Text "Dropout" -> Dropout(real (field "rate" entries))
            | _ -> failwithf "this script has no such operation: %A" entries

        match field "name" entries, field "inputs" entries with
        | Text name, List [ Text input ] -> { Name = name; Operation = operation; Input = input }
        | _ -> failwithf "this layer is not made of one other: %A" entries
    | other -> failwithf "%A is no layer" other

/// A network of networks.json.
let loadModel folder name : Model =
    let entries =
        function
        | Object entries -> entries
        | other -> failwithf "%A is no object" other

    let items =
        function
        | List items -> items
        | other -> failwithf "%A is no list" other

    let model = readJson (readFile (folder + "/networks.json")) |> entries |> field name |> entries
    let part name = items (field name model)

    { ImageShape = part "image" |> List.map whole |> Array.ofList
      Encoder = part "encoder" |> List.map readLayer
      Head = part "head" |> List.map readLayer }

/// The shapes of a network's weights, in the order in which they are numbered, and its activations' from the shape of one
/// image on.
let weightShapes (network: Network) (image: int[]) : (string * int[]) list =
    let step (shapes: Map<string, int[]>, weights) layer =
        let x = shapes.[layer.Input]

        let shape, own =
            match layer.Operation with
            | Conv filters -> [| x.[0]; x.[1]; filters |], [ "kernel", [| 3; 3; x.[2]; filters |]; "bias", [| filters |] ]
            | Dense units -> [| units |], [ "kernel", [| x.[0]; units |]; "bias", [| units |] ]
            | MaxPool -> [| x.[0] / 2; x.[1] / 2; x.[2] |], []
            | Flatten -> [| count x |], []
            | Relu
            | Dropout _ -> x, []

        Map.add layer.Name shape shapes, weights @ List.map (fun (part, s) -> layer.Name + "/" + part, s) own

    List.fold step (Map.ofList [ "image", image ], []) network |> snd

/// Kernels uniform within Glorot's limits, biases 0.
let firstWeights seed (shapes: (string * int[]) list) : (string * Tensor) list =
    let key = purposeKey seed (int Purpose.Weights)

    let values index (shape: int[]) =
        match Array.rev shape with
        | [| units |] -> Array.zeroCreate units
        | reversed ->
            let field = if shape.Length = 4 then 9.0 else 1.0
            let limit = sqrt (6.0 / (field * float (reversed.[0] + reversed.[1])))
            Array.init (count shape) (fun i -> limit * (2.0 * uniform key (uint32 index) i - 1.0))

    shapes |> List.mapi (fun index (name, shape) -> name, { Shape = shape; Values = values index shape })

/// A matrix (rows, columns) as (columns, rows).
let private transpose columns (values: float[]) : float[] =
    let rows = values.Length / columns
    let turned = Array.zeroCreate<float> values.Length

    for row in 0 .. rows - 1 do
        for column in 0 .. columns - 1 do
            turned.[column * rows + row] <- values.[row * columns + column]

    turned

/// For each pixel the nine around it, one under the other, so that a convolution is a matrix product: where each number of
/// the matrix (pixel, 9 x channels) lies in the image, -1 in the border of zeros.
let private findPatches (shape: int[]) : int[] =
    let height, width, channels = shape.[0], shape.[1], shape.[2]

    let place i =
        let pixel, tap, channel = i / channels / 9, i / channels % 9, i % channels
        let row, column = pixel / width + tap / 3 - 1, pixel % width + tap % 3 - 1
        let inside = row >= 0 && row < height && column >= 0 && column < width
        if inside then (row * width + column) * channels + channel else -1

    Array.init (height * width * 9 * channels) place

let private known = Collections.Generic.Dictionary<string, int[]>()

/// `findPatches`, once for every shape.
let private patches (shape: int[]) : int[] =
    let name = shape |> Array.map string |> String.concat " x "
    if not (known.ContainsKey name) then known.[name] <- findPatches shape
    known.[name]

let private gather (places: int[]) (x: float[]) : float[] =
    let gathered = Array.zeroCreate<float> places.Length

    for i in 0 .. places.Length - 1 do
        if places.[i] >= 0 then gathered.[i] <- x.[places.[i]]

    gathered

/// Each row of `x` times a kernel (input, output), plus the bias.
let private multiply (x: float[]) (kernel: float[]) (bias: float[]) : float[] =
    let outputs = bias.Length
    let inputs = kernel.Length / outputs
    let columns = transpose outputs kernel // so that the innermost loop runs along both arrays
    let y = Array.zeroCreate<float> (x.Length / inputs * outputs)

    for row in 0 .. x.Length / inputs - 1 do
        for output in 0 .. outputs - 1 do
            let mutable sum = bias.[output]

            for i in 0 .. inputs - 1 do
                sum <- sum + x.[row * inputs + i] * columns.[output * inputs + i]

            y.[row * outputs + output] <- sum

    y

/// The gradients of what goes into `multiply`, from that of its result.
let private multiplyBack (x: float[]) (kernel: float[]) outputs (dy: float[]) : float[] * float[] * float[] =
    let inputs = kernel.Length / outputs
    let columns = transpose outputs kernel
    let dx = Array.zeroCreate<float> x.Length
    let dColumns = Array.zeroCreate<float> kernel.Length
    let dBias = Array.zeroCreate<float> outputs

    for row in 0 .. x.Length / inputs - 1 do
        for output in 0 .. outputs - 1 do
            let d = dy.[row * outputs + output]

            if d <> 0.0 then // most are 0 after a max-pool and a ReLU
                dBias.[output] <- dBias.[output] + d

                for i in 0 .. inputs - 1 do
                    let one, other = row * inputs + i, output * inputs + i
                    dx.[one] <- dx.[one] + d * columns.[other]
                    dColumns.[other] <- dColumns.[other] + d * x.[one]

    dx, transpose inputs dColumns, dBias

/// For each output of a max-pool the place of its input: the first of the largest, in row-major order.
let private largest (x: Tensor) : int[] =
    let width, channels = x.Shape.[1], x.Shape.[2]

    Array.init (x.Values.Length / 4) (fun i ->
        let c, column, row = i % channels, i / channels % (width / 2), i / channels / (width / 2)
        let mutable best = (2 * row * width + 2 * column) * channels + c

        for square in 1 .. 3 do
            let place = ((2 * row + square / 2) * width + 2 * column + square % 2) * channels + c
            if x.Values.[place] > x.Values.[best] then best <- place

        best)

/// What a layer makes of its input; `kept` says which units dropout keeps.
let forward (weights: Parameters) (kept: bool[]) (layer: Layer) (x: Tensor) : Tensor =
    let weight part = weights.[layer.Name + "/" + part].Values

    match layer.Operation with
    | Conv filters ->
        { Shape = [| x.Shape.[0]; x.Shape.[1]; filters |]
          Values = multiply (gather (patches x.Shape) x.Values) (weight "kernel") (weight "bias") }
    | Dense units -> { Shape = [| units |]; Values = multiply x.Values (weight "kernel") (weight "bias") }
    | Relu -> { x with Values = Array.map (max 0.0) x.Values }
    | MaxPool ->
        { Shape = [| x.Shape.[0] / 2; x.Shape.[1] / 2; x.Shape.[2] |]
          Values = gather (largest x) x.Values }
    | Flatten -> { x with Shape = [| x.Values.Length |] }
    | Dropout rate ->
        { x with Values = Array.map2 (fun value keep -> if keep then value / (1.0 - rate) else 0.0) x.Values kept }

/// From the gradient of a layer's output those of its input and of its weights.
let backward (weights: Parameters) (kept: bool[]) (layer: Layer) (x: Tensor) (dy: Tensor) : Tensor * (string * Tensor) list =
    /// The gradient of a gathered array goes to the places it was gathered from.
    let scatter (places: int[]) (gradient: float[]) =
        let dx = Array.zeroCreate<float> x.Values.Length

        for i in 0 .. places.Length - 1 do
            let place = places.[i]
            if place >= 0 then dx.[place] <- dx.[place] + gradient.[i]

        dx

    let product rows outputs =
        let name part = layer.Name + "/" + part
        let kernel = weights.[name "kernel"]
        let dRows, dKernel, dBias = multiplyBack rows kernel.Values outputs dy.Values
        dRows, [ name "kernel", { kernel with Values = dKernel }; name "bias", { Shape = [| outputs |]; Values = dBias } ]

    let dx, own =
        match layer.Operation with
        | Conv filters ->
            let places = patches x.Shape
            let dPatches, own = product (gather places x.Values) filters
            scatter places dPatches, own
        | Dense units -> product x.Values units
        | Relu -> Array.map2 (fun value d -> if value > 0.0 then d else 0.0) x.Values dy.Values, []
        | MaxPool -> scatter (largest x) dy.Values, []
        | Flatten -> dy.Values, []
        | Dropout rate -> Array.map2 (fun d keep -> if keep then d / (1.0 - rate) else 0.0) dy.Values kept, []

    { x with Values = dx }, own

/// The activations of all layers, by name, after those given.
let run weights kept (network: Network) (given: Map<string, Tensor>) : Map<string, Tensor> =
    let step (found: Map<string, Tensor>) layer =
        Map.add layer.Name (forward weights kept layer found.[layer.Input]) found

    List.fold step given network

let private image x = Map.ofList [ "image", x ]

/// The logit of a yes: the softmax of two numbers is the logistic function of their difference.
let private logit (found: Map<string, Tensor>) = found.["answer"].Values.[1] - found.["answer"].Values.[0]
let private probability logit = 1.0 / (1.0 + exp -logit)

/// The arrays of a file whose names begin so, under the rest of their names.
let private parameters (file: File) (prefix: string) : Parameters =
    file
    |> Map.toList
    |> List.filter (fun (name, _) -> name.StartsWith prefix)
    |> List.map (fun (name, stored) -> name.Substring prefix.Length, { Shape = stored.Shape; Values = floats file name })
    |> Map.ofList

// ---- 4. The likelihood ----

let private log1p x =
    let u = 1.0 + x
    if u = 1.0 then x else log u * x / (u - 1.0) // what the sum lost to rounding cancels (Kahan)

let private softplus z = max z 0.0 + log1p (exp -(abs z))

/// -ln L of `yes` votes among `total`, without the binomial coefficient.
let negativeLogLikelihood logit yes total =
    let term factor z = if factor = 0.0 then 0.0 else factor * softplus z
    term yes -logit + term (total - yes) logit

/// A question's concentrations, each with its derivative by the logit.
type Concentrations =
    | Exp
    | Sigmoid

type Votes =
    | Multinomial
    | DirichletMultinomial of Concentrations

let private concentration form z =
    match form with
    | Exp -> exp z, exp z
    | Sigmoid -> 1.0 + 100.0 * probability z, 100.0 * probability z * probability -z

/// -ln L of a question's votes, without the multinomial coefficient, and its gradient by each logit.
let questionNll form (logits: float[]) (votes: int[]) : float * float[] =
    let total = Array.sum votes
    let sumOver count term = Seq.sumBy (fun (rank: int) -> term (float rank)) (seq { 0 .. count - 1 })

    match form with
    | Multinomial ->
        let most = Array.max logits
        let whole = most + log (Array.sumBy (fun z -> exp (z - most)) logits)

        Array.map2 (fun z k -> float k * (whole - z)) logits votes |> Array.sum,
        Array.map2 (fun z k -> float total * exp (z - whole) - float k) logits votes
    | DirichletMultinomial form ->
        let alphas, slopes = logits |> Array.map (concentration form) |> Array.unzip
        let whole = Array.sum alphas
        let befores = Array.scan (+) 0 votes // Polya's urn: the votes for the answers before
        let urn alpha before k = sumOver k (fun rank -> -(log ((alpha + rank) / (whole + float before + rank))))
        let expected = sumOver total (fun rank -> 1.0 / (whole + rank))
        let slope alpha k = expected - sumOver k (fun rank -> 1.0 / (alpha + rank))

        Array.map3 urn alphas befores.[.. votes.Length - 1] votes |> Array.sum,
        Array.map2 (*) slopes (Array.map2 slope alphas votes)

// ---- 5. Gradients ----

type Example =
    { Image: Tensor
      Kept: bool[]
      Yes: float
      Total: float }

let private map2 operation (a: Tensor) (b: Tensor) = { a with Values = Array.map2 operation a.Values b.Values }

/// The mean loss of a batch and its gradient with respect to every weight.
let gradients (network: Network) (weights: Parameters) (batch: Example[]) : float * Parameters =
    let size = float batch.Length

    let one example =
        let found = run weights example.Kept network (image example.Image)
        let z = logit found
        let d = (example.Total * probability z - example.Yes) / size

        let step (flowing: Map<string, Tensor>, gradients) layer =
            let dx, own = backward weights example.Kept layer found.[layer.Input] flowing.[layer.Name]
            Map.add layer.Input dx flowing, own @ gradients

        let first = Map.ofList [ "answer", { Shape = [| 2 |]; Values = [| -d; d |] } ]
        negativeLogLikelihood z example.Yes example.Total / size, List.fold step (first, []) (List.rev network) |> snd

    let add (loss, sums) example =
        let more, gradients = one example
        loss + more, List.map2 (fun (name, a) (_, b) -> name, map2 (+) a b) sums gradients

    let loss, sums = Array.fold add (one batch.[0]) batch.[1..]
    loss, Map.ofList sums

// ---- 6. Adam ----

type Form =
    | Textbook
    | Hat

type Adam =
    { Rate: float
      Beta1: float
      Beta2: float
      Epsilon: float }

/// Weights and their first and second moments after a step, counted from 0 (Kingma and Ba 2015).
let adam spec form (step: int) (weights: float[], firsts: float[], seconds: float[]) (gradient: float[]) =
    let c1 = 1.0 - spec.Beta1 ** float (step + 1)
    let c2 = 1.0 - spec.Beta2 ** float (step + 1)
    let average beta old current = beta * old + (1.0 - beta) * current
    let firsts = Array.map2 (average spec.Beta1) firsts gradient
    let seconds = Array.map2 (fun old g -> average spec.Beta2 old (g * g)) seconds gradient

    let change first second =
        match form with
        | Textbook -> first / c1 / (sqrt (second / c2) + spec.Epsilon)
        | Hat -> sqrt c2 / c1 * first / (sqrt second + spec.Epsilon)

    Array.map3 (fun weight first second -> weight - spec.Rate * change first second) weights firsts seconds, firsts, seconds

// ---- 9. Acquisition ----

/// Entropy of the predicted votes, and their mutual information with the weights, from a galaxy's samples of rho.
let scores (rho: float[]) (votes: int) : float * float =
    let logFactorials = Array.scan (fun sum n -> sum + log (float n)) 0.0 [| 1..votes |]
    let times k value = if k = 0 then 0.0 else float k * value

    let share k =
        let ways = logFactorials.[votes] - logFactorials.[k] - logFactorials.[votes - k]
        let each = rho |> Array.map (fun r -> ways + times k (log r) + times (votes - k) (log1p -r))
        let mean = each |> Array.averageBy exp

        let divergence logP =
            if exp logP > 0.0 then exp logP * (logP - log mean) else 0.0

        (if mean > 0.0 then -mean * log mean else 0.0), Array.averageBy divergence each

    let entropies, informations = Array.init (votes + 1) share |> Array.unzip
    Array.sum entropies, Array.sum informations

/// The places of the largest scores, rising.
let top wanted (scores: float[]) : int[] =
    [| 0 .. scores.Length - 1 |]
    |> Array.sortBy (fun place -> -scores.[place], place)
    |> Array.take wanted
    |> Array.sort

// ---- The checks: what each reads and writes ----

/// What several checks are about.
type Kit =
    { Wide: Model
      Narrow: Model
      Weights: Parameters } // of the wide network

let private layers model = model.Encoder @ model.Head

let private stack name (tensors: Tensor[]) =
    putFloats name (tensors.Length :: List.ofArray tensors.[0].Shape) (tensors |> Array.collect (fun t -> t.Values))

let private putTensors prefix (tensors: Parameters) =
    [ for name, tensor in Map.toList tensors -> putFloats (prefix + name) (List.ofArray tensor.Shape) tensor.Values ]

let checkKeys (file: File) kit =
    let seed = (longs file "in/seed").[0]
    let seeds = longs file "in/seeds"
    let key, counter = words file "in/key", words file "in/counter"
    let drawn = Array.init (key.Length / 2) (fun i -> threefry (keyOf key i) (keyOf counter i))
    let ids, ends = (find file "in/ids").Bytes, ints file "in/id_ends"
    let hashes = Array.map2 (fun first last -> blake2b (Array.sub ids first (last - first))) (Array.append [| 0 |] ends.[.. ends.Length - 2]) ends
    let own purpose = Array.map (galaxyKey seed purpose) hashes
    let index, rates, dropout = words file "in/index", floats file "in/rates", own (int Purpose.Dropout)
    let each f = [| for i in index do for key in dropout do yield! f key i |]
    let shape last = [ index.Length; hashes.Length; last ]

    let first = firstWeights seed (weightShapes (layers kit.Narrow) kit.Narrow.ImageShape)

    let batch, origin, steps = integer file "in/batch_size", integer file "in/origin", ints file "in/steps"
    let trained = Array.take (integer file "in/galaxies") hashes

    let batchAt step =
        let perEpoch = trained.Length / batch
        let epoch = origin + (step - origin) / perEpoch * perEpoch
        Array.sub (epochOrder seed trained epoch) ((step - epoch) * batch) batch

    let rows = Array.map batchAt steps

    let spec =
        { Stored = number file "in/image_size"
          Size = number file "in/network_size"
          Share = number file "in/crop"
          Zoom = floats file "in/zoom"
          Brightness = number file "in/brightness"
          Contrast = floats file "in/contrast" }

    let bilinear, nearest =
        Array.map2 (fun step -> Array.map (fun row -> drawViews spec seed trained.[row] step)) steps rows
        |> Array.concat
        |> Array.unzip

    [ putWords "out/words" [ drawn.Length; 2 ] (flat drawn)
      putWords "out/purpose_keys" [ seeds.Length; purposes; 2 ] (flat [| for s in seeds do for p in 0 .. purposes - 1 -> purposeKey s p |])
      putLongs "out/hashes" [ hashes.Length ] hashes
      putWords "out/galaxy_keys" [ purposes; hashes.Length; 2 ] (flat (Array.collect own [| 0 .. purposes - 1 |]))
      putWords "out/bits" (shape 9) (each (fun key i -> Array.init 9 (word key i)))
      putFloats "out/uniforms" (shape 9) (each (fun key i -> Array.init 9 (uniform key i)))
      putFlags "out/keep" (rates.Length :: shape 128) (rates |> Array.collect (fun rate -> each (fun key i -> mask key i 128 rate)))
      putInts "out/order" [ trained.Length ] (epochOrder seed trained (integer file "in/epoch"))
      putInts "out/rows" [ steps.Length; batch ] (Array.concat rows) ]
    @ [ for name, tensor in first -> putSingles ("out/first/" + name) (List.ofArray tensor.Shape) tensor.Values ]
    @ putViews "out/bilinear" [ steps.Length; batch ] bilinear
    @ putViews "out/nearest" [ steps.Length; batch ] nearest
    @ putViews "out/still" [ 1 ] [| stillView spec |]

let checkViews (file: File) _ =
    let images, size = rows file "in/images", integer file "in/size"

    let viewed name border scale =
        let seen = Array.map2 (fun view image -> apply view border scale size image) (views file (sprintf "in/%s/" name)) images
        stack ("out/" + name) (seen |> Array.map (fun x -> { x with Shape = [| size; size |] }))

    [ viewed "bilinear" Edge 255.0; viewed "nearest" Zero 1.0 ]

let private masks file name = rows file name |> Array.map (fun row -> Array.map (fun keep -> keep <> 0.0) row.Values)

let checkLayers (file: File) kit =
    let network = layers kit.Wide
    let found = Array.map2 (fun kept x -> run kit.Weights kept network (image x)) (masks file "in/keep") (rows file "in/x")

    let shown =
        network
        |> List.filter (fun layer ->
            match layer.Operation with
            | Conv _
            | MaxPool -> true
            | _ -> layer.Name = "hidden" || layer.Name = "units")

    putFloats "out/logits" [ found.Length ] (Array.map logit found)
    :: [ for layer in shown -> stack ("out/" + layer.Name) (found |> Array.map (fun one -> one.[layer.Name])) ]

let checkLikelihood (file: File) _ =
    let logits = floats file "in/logits"
    let tree, votes, question = rows file "in/tree/logits", rows file "in/tree/votes", ints file "in/tree/question"
    let places = [| 0 .. question.Length - 1 |] |> Array.groupBy (fun answer -> question.[answer]) |> Array.map snd
    let pick (at: int[]) (tensor: Tensor) = at |> Array.map (fun answer -> tensor.Values.[answer])

    let bothQuestions (name, form) =
        let one logits votes =
            let nlls, slopes = places |> Array.map (fun at -> questionNll form (pick at logits) (Array.map int (pick at votes))) |> Array.unzip
            Array.sum nlls, Array.concat slopes

        let nlls, slopes = Array.map2 one tree votes |> Array.unzip
        let put part shape values = putFloats (sprintf "out/%s/%s" name part) shape values
        [ put "nll" [ nlls.Length ] nlls; put "slope" [ nlls.Length; question.Length ] (Array.concat slopes) ]

    putFloats "out/nll" [ logits.Length ] (Array.map3 negativeLogLikelihood logits (floats file "in/yes") (floats file "in/total"))
    :: List.collect
        bothQuestions
        [ "multinomial", Multinomial
          "dirichlet_multinomial/exp", DirichletMultinomial Exp
          "dirichlet_multinomial/sigmoid", DirichletMultinomial Sigmoid ]

let checkGradient (file: File) kit =
    let images, yes, total = rows file "in/x", floats file "in/yes", floats file "in/total"

    let worked model weights keep =
        let kept = masks file keep

        gradients (layers model) weights (Array.init images.Length (fun i -> { Image = images.[i]; Kept = kept.[i]; Yes = yes.[i]; Total = total.[i] }))

    let loss, slopes = worked kit.Wide kit.Weights "in/keep"
    let _, tied = worked kit.Narrow (parameters file "in/tied/weights/") "in/tied/keep"
    putFloats "out/loss" [ 1 ] [| loss |] :: putTensors "out/slope/" slopes @ putTensors "out/tied/" tied

let private manySteps (file: File) network spec =
    let part name = "in/many/" + name
    let weights = parameters file (part "weights/")
    let images, size, rate = rows file (part "images"), integer file (part "size"), number file (part "rate")
    let galaxies, views, keys = ints file (part "rows"), views file "in/many/", words file (part "keys")
    let yes, total, steps = floats file (part "yes"), floats file (part "total"), ints file (part "steps")
    let units, batch = weights.["hidden/bias"].Values.Length, galaxies.Length / steps.Length

    let example step i =
        { Image = apply views.[i] Edge 255.0 size images.[galaxies.[i]]
          Kept = mask (keyOf keys i) (uint32 step) units rate
          Yes = yes.[i]
          Total = total.[i] }

    let train (state: Map<string, float[] * float[] * float[]>) (number, step) =
        let now = weights |> Map.map (fun name tensor -> let w, _, _ = state.[name] in { tensor with Values = w })
        let loss, slopes = gradients network now (Array.init batch (fun i -> example step (number * batch + i)))
        loss, state |> Map.map (fun name old -> adam spec Textbook step old slopes.[name].Values)

    let zeros (tensor: Tensor) = Array.zeroCreate<float> tensor.Values.Length
    let start = weights |> Map.map (fun _ tensor -> tensor.Values, zeros tensor, zeros tensor)
    let losses, state = Array.mapFold (fun state step -> train state step) start (Array.indexed steps)
    let named prefix pick = putTensors prefix (weights |> Map.map (fun name tensor -> { tensor with Values = pick state.[name] }))

    putFloats "out/many/losses" [ steps.Length ] losses
    :: named "out/many/weight/" (fun (w, _, _) -> w)
    @ named "out/many/first/" (fun (_, m, _) -> m)
    @ named "out/many/second/" (fun (_, _, v) -> v)

let checkAdam (file: File) kit =
    let spec =
        { Rate = number file "in/learning_rate"
          Beta1 = number file "in/beta1"
          Beta2 = number file "in/beta2"
          Epsilon = number file "in/epsilon" }

    let part name = rows file ("in/one/" + name) |> Array.map (fun row -> row.Values)
    let steps, weight, first, second, slope = ints file "in/one/step", part "weight", part "first", part "second", part "slope"
    let shape = [ weight.Length; weight.[0].Length ]

    let once (form, name) =
        let after = Array.init steps.Length (fun i -> adam spec form steps.[i] (weight.[i], first.[i], second.[i]) slope.[i])
        let w, m, v = Array.unzip3 after
        [ for part, values in [ "weight", w; "first", m; "second", v ] -> putFloats (sprintf "out/one/%s/%s" name part) shape (Array.concat values) ]

    List.collect once [ Textbook, "textbook"; Hat, "hat" ] @ manySteps file (layers kit.Narrow) spec

let checkPosterior (file: File) kit =
    let keys, size, rate = words file "in/keys", integer file "in/size", number file "in/rate"
    let first, samples = integer file "in/first", integer file "in/samples"
    let images = rows file "in/images"

    let sampled i view =
        let found = run kit.Weights [||] kit.Wide.Encoder (image (apply view Edge 255.0 size images.[i]))
        let units = found.["units"].Values.Length

        Array.init samples (fun s ->
            probability (logit (run kit.Weights (mask (keyOf keys i) (uint32 (first + s)) units rate) kit.Wide.Head found)))

    [ putFloats "out/rho" [ images.Length; samples ] (views file "in/" |> Array.mapi sampled |> Array.concat) ]

let checkAcquisition (file: File) _ =
    let rho = rows file "in/rho" |> Array.map (fun row -> row.Values)
    let votes, keys, index = integer file "in/votes", words file "in/keys", (words file "in/index").[0]
    let entropy, information = rho |> Array.map (fun one -> scores one votes) |> Array.unzip
    let _, each = Array.map2 scores rho (ints file "in/votes_each") |> Array.unzip
    let random = Array.init rho.Length (fun i -> uniform (keyOf keys i) index 0)
    let named = [ "entropy", entropy; "mutual_information", information; "random", random ]
    let wanted = integer file "in/wanted"

    putFloats "out/mutual_information_each" [ rho.Length ] each
    :: [ for name, values in named do
             yield putFloats ("out/" + name) [ rho.Length ] values
             yield putInts ("out/top_" + name) [ wanted ] (top wanted values) ]

let private checks =
    [ "1_keys", checkKeys
      "2_warp", checkViews
      "3_layers", checkLayers
      "4_likelihood", checkLikelihood
      "5_gradient", checkGradient
      "6_adam", checkAdam
      "8_posterior", checkPosterior
      "9_acquisition", checkAcquisition ]

match List.ofArray (arguments ()) with
| folder :: answers :: asked ->
    let kit =
        { Wide = loadModel folder "wide"
          Narrow = loadModel folder "narrow"
          Weights = parameters (load folder "weights") "" }

    for name, check in checks do
        if List.isEmpty asked || List.contains name asked then
            save answers name (check (load folder name) kit)
| _ -> failwith "usage: port.fsx KIT ANSWERS [CHECK ...]"
